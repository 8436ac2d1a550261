//! The state behind the embedded broker: where messages go, and who holds which. Everything here happens under
//! one lock, and nothing here waits.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::mpsc;

use super::super::topology::{
    self, Binding, DEAD, DEATHS, Destination, FLAGS, HISTORY, SIGNALS, SUBMISSIONS, Topology,
};
use super::super::{BrokerError, Content, Credit, Delivery, Message, Settle, Source};
use super::routes::Routes;
use super::shelf::{ConsumerId, Entry, History, Overflow, Parcel, Queue};
use crate::domain::limits::MESSAGE_BYTES_MAX;
use crate::domain::{ExecutorId, QueueName};

/// The state, shared with the deliveries that are lent.
pub(super) type Shared = Mutex<Switch>;

/// Takes the lock. A panic elsewhere leaves counters at worst one off; going on is better than stopping all.
pub(super) fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, Switch> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Exchange(Arc<str>),
    Queue(Arc<str>),
}

#[derive(Debug, Default)]
struct Exchange {
    routes: Routes<Target>,
    alternate: Option<Arc<str>>,
}

/// What a consumer takes from.
#[derive(Debug)]
enum From {
    Queue(Arc<str>),
    /// The history, from this offset on.
    History(u64),
}

#[derive(Debug)]
struct Consumer {
    from: From,
    /// The bindings of its own queue, which goes with it.
    own: Vec<Binding>,
    outgoing: mpsc::Sender<Delivery>,
    credit: usize,
    lent: BTreeMap<u64, Entry>,
    tag: u64,
    /// Whether it stands in the line of its queue, or of the history.
    is_waiting: bool,
    /// Whose token it holds.
    token_of: Option<ExecutorId>,
}

impl Consumer {
    fn has_credit(&self) -> bool {
        self.lent.len() < self.credit
    }
}

/// Exchanges, queues and consumers.
#[derive(Debug)]
pub(super) struct Switch {
    me: Weak<Shared>,
    exchanges: HashMap<Arc<str>, Exchange>,
    queues: HashMap<Arc<str>, Queue>,
    history: History,
    /// Readers of the history that have read all there is.
    readers: Vec<ConsumerId>,
    consumers: HashMap<ConsumerId, Consumer>,
    next_id: ConsumerId,
    is_closed: bool,
}

/// What happens to a delivery that comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Done,
    Useless,
}

struct Lent {
    switch: Weak<Shared>,
    consumer: ConsumerId,
    tag: u64,
}

impl Lent {
    fn settle(&self, verdict: Verdict) {
        if let Some(shared) = self.switch.upgrade() {
            lock(&shared).settle(self.consumer, self.tag, verdict);
        }
    }
}

impl Settle for Lent {
    fn ack(self: Box<Self>) {
        self.settle(Verdict::Done);
    }

    fn reject(self: Box<Self>) {
        self.settle(Verdict::Useless);
    }
}

impl Switch {
    pub(super) fn new(me: Weak<Shared>, topology: &Topology) -> Self {
        let mut switch = Self {
            me,
            exchanges: HashMap::new(),
            queues: HashMap::new(),
            history: History::default(),
            readers: Vec::new(),
            consumers: HashMap::new(),
            next_id: 0,
            is_closed: false,
        };
        for exchange in &topology.exchanges {
            let alternate = topology.alternate(exchange.name).map(Arc::from);
            let exchange_state = Exchange {
                alternate,
                ..Exchange::default()
            };
            switch
                .exchanges
                .insert(Arc::from(exchange.name), exchange_state);
        }
        for queue in topology.queues.iter().filter(|queue| queue.name != HISTORY) {
            switch.declare(&queue.name, shared_overflow(&queue.name));
        }
        topology
            .bindings
            .iter()
            .for_each(|binding| switch.bind(binding));
        switch
    }

    fn declare(&mut self, name: &str, overflow: Overflow) {
        self.queues
            .entry(Arc::from(name))
            .or_insert_with(|| Queue::new(overflow));
    }

    fn bind(&mut self, binding: &Binding) {
        if let Some(source) = self.exchanges.get_mut(&*binding.source) {
            source.routes.add(&binding.key, target(binding));
        }
    }

    pub(super) fn create_queue(&mut self, queue: &QueueName) {
        self.declare(&topology::work_queue(queue), Overflow::Refuse);
        self.bind(&topology::work_binding(queue));
    }

    /// How many messages of a queue nobody holds.
    pub(super) fn depth(&self, queue: &str) -> Option<usize> {
        self.queues.get(queue).map(Queue::len)
    }

    /// How many messages of a queue consumers hold.
    pub(super) fn lent(&self, queue: &str) -> usize {
        let holds =
            |consumer: &Consumer| matches!(&consumer.from, From::Queue(name) if **name == *queue);
        let consumers = self.consumers.values().filter(|consumer| holds(consumer));
        consumers.map(|consumer| consumer.lent.len()).sum()
    }

    pub(super) fn publish(&mut self, message: Message) -> Result<(), BrokerError> {
        if self.is_closed {
            return Err(BrokerError::Unavailable {
                reason: "it was closed".to_owned(),
            });
        }
        let bytes = message.body.len();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(BrokerError::TooLarge {
                bytes,
                bytes_max: MESSAGE_BYTES_MAX,
            });
        }
        if self.forward(&Arc::new(Parcel::from(message))) {
            Ok(())
        } else {
            Err(BrokerError::Refused)
        }
    }

    /// Puts a message into every queue that it is routed to; `false` when one of them is full.
    fn forward(&mut self, parcel: &Arc<Parcel>) -> bool {
        let mut queues = Vec::new();
        self.route(parcel.exchange, &parcel.key, &mut queues);
        let mut is_taken = true;
        for name in queues {
            if *name == *HISTORY {
                self.history.push(Arc::clone(parcel));
                self.wake_readers();
            } else if let Some(queue) = self.queues.get_mut(&name) {
                is_taken &= queue.push(Arc::clone(parcel));
                self.pump(&name);
            }
        }
        is_taken
    }

    /// Finds the queues behind an exchange, each once.
    fn route(&self, exchange: &str, key: &str, queues: &mut Vec<Arc<str>>) {
        let Some(exchange) = self.exchanges.get(exchange) else {
            return;
        };
        let mut is_routed = false;
        exchange.routes.find(key, &mut |target| {
            is_routed = true;
            match target {
                Target::Exchange(next) => self.route(next, key, queues),
                Target::Queue(name) if queues.contains(name) => {}
                Target::Queue(name) => queues.push(Arc::clone(name)),
            }
        });
        if let Some(alternate) = exchange.alternate.as_ref().filter(|_| !is_routed) {
            self.route(alternate, key, queues);
        }
    }

    pub(super) fn consume(
        &mut self,
        source: &Source,
        credit: Credit,
        outgoing: mpsc::Sender<Delivery>,
    ) -> Result<ConsumerId, BrokerError> {
        if self.is_closed {
            return Err(BrokerError::Unavailable {
                reason: "it was closed".to_owned(),
            });
        }
        let (from, own) = self.take_from(source)?;
        let id = self.next_id;
        self.next_id += 1;
        let consumer = Consumer {
            from,
            own,
            outgoing,
            credit: usize::from(credit),
            lent: BTreeMap::new(),
            tag: 0,
            is_waiting: false,
            token_of: source.token_of(),
        };
        self.consumers.insert(id, consumer);
        self.serve(id);
        if let Some(executor) = source.token_of() {
            self.say_of(executor, topology::token_binding(executor).key);
        }
        Ok(id)
    }

    /// Finds or makes what `source` stands for.
    fn take_from(&mut self, source: &Source) -> Result<(From, Vec<Binding>), BrokerError> {
        let (name, own) = match source {
            Source::Work(queue) => (topology::work_queue(queue), Vec::new()),
            Source::Submissions => (SUBMISSIONS.to_owned(), Vec::new()),
            Source::Signals => (SIGNALS.to_owned(), Vec::new()),
            Source::Results(web, origin) => {
                let own = vec![topology::results_binding(*web, origin)];
                (topology::results_queue(*web), own)
            }
            Source::Control(executor) => {
                let own = topology::control_bindings(*executor).into();
                (topology::control_queue(*executor), own)
            }
            Source::Token(executor) => {
                let own = vec![topology::token_binding(*executor)];
                (topology::token_queue(*executor), own)
            }
            Source::Deaths => (DEATHS.to_owned(), Vec::new()),
            Source::Flags => (FLAGS.to_owned(), Vec::new()),
            Source::History(since) => {
                return Ok((From::History(self.history.begin(*since)), Vec::new()));
            }
        };
        if !own.is_empty() {
            self.declare(&name, Overflow::DropOldest);
            for binding in &own {
                self.bind(binding);
            }
        }
        let name: Arc<str> = Arc::from(name);
        let queue = self.queues.get_mut(&name);
        let queue = queue.ok_or_else(|| BrokerError::NoQueue {
            what: format!("queue `{name}`"),
        })?;
        queue.consumers += 1;
        Ok((From::Queue(name), own))
    }

    /// Publishes a token, or what it has become.
    fn say_of(&mut self, executor: ExecutorId, key: String) {
        let parcel = Parcel {
            exchange: DEATHS,
            key,
            message_id: executor.to_string(),
            content: Content::Json,
            body: b"{}".to_vec(),
        };
        // The queues behind it drop their oldest and so are never full.
        self.forward(&Arc::new(parcel));
    }

    pub(super) fn set_credit(&mut self, id: ConsumerId, credit: Credit) {
        if let Some(consumer) = self.consumers.get_mut(&id) {
            consumer.credit = usize::from(credit);
            self.serve(id);
        }
    }

    /// Ends a consumer: what it holds goes back to the front of its queue, in the old order.
    pub(super) fn end(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.remove(&id) else {
            return;
        };
        let From::Queue(name) = consumer.from else {
            self.readers.retain(|reader| *reader != id);
            return;
        };
        if let Some(executor) = consumer.token_of.filter(|_| !consumer.lent.is_empty()) {
            self.say_of(executor, topology::death_key(executor));
        }
        let Some(queue) = self.queues.get_mut(&name) else {
            return;
        };
        queue.consumers -= 1;
        for (_, entry) in consumer.lent.into_iter().rev() {
            queue.put_back(Entry {
                is_redelivered: true,
                ..entry
            });
        }
        if queue.consumers == 0 && !consumer.own.is_empty() {
            self.queues.remove(&name);
            for binding in consumer.own {
                if let Some(source) = self.exchanges.get_mut(&*binding.source) {
                    source.routes.remove(&binding.key, &target(&binding));
                }
            }
        } else {
            self.pump(&name);
        }
    }

    /// Ends every consumer, after what it was sent.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.consumers.clear();
    }

    fn settle(&mut self, id: ConsumerId, tag: u64, verdict: Verdict) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        let Some(entry) = consumer.lent.remove(&tag) else {
            return;
        };
        if verdict == Verdict::Useless {
            self.give_up(id, &entry.parcel);
        }
        self.serve(id);
    }

    fn give_up(&mut self, id: ConsumerId, parcel: &Parcel) {
        let from = self.consumers.get(&id).map(|consumer| &consumer.from);
        let Some(From::Queue(name)) = from else {
            return;
        };
        let is_kept = self
            .queues
            .get(name)
            .is_some_and(|queue| queue.is_dead_lettered);
        if is_kept {
            let dead = Parcel {
                exchange: DEAD,
                key: parcel.key.clone(),
                message_id: parcel.message_id.clone(),
                content: parcel.content,
                body: parcel.body.clone(),
            };
            // The queue behind it drops its oldest and so is never full.
            self.forward(&Arc::new(dead));
        }
    }

    /// Lets a consumer that may have got credit stand in line, and serves the line.
    fn serve(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        if consumer.is_waiting || !consumer.has_credit() {
            return;
        }
        match &consumer.from {
            From::Queue(name) => {
                consumer.is_waiting = true;
                let name = Arc::clone(name);
                if let Some(queue) = self.queues.get_mut(&name) {
                    queue.waiting.push_back(id);
                }
                self.pump(&name);
            }
            From::History(_) => self.read_on(id),
        }
    }

    /// Gives messages to waiting consumers, one to each in turn, until either runs out.
    fn pump(&mut self, name: &Arc<str>) {
        let Some(queue) = self.queues.get_mut(name) else {
            return;
        };
        let mut gone = Vec::new();
        while queue.len() > 0 {
            let Some(id) = queue.waiting.pop_front() else {
                break;
            };
            let Some(consumer) = self.consumers.get_mut(&id) else {
                continue;
            };
            consumer.is_waiting = false;
            if !consumer.has_credit() {
                continue;
            }
            let Some(entry) = queue.pop() else { break };
            if !lend(&self.me, id, consumer, entry, None) {
                gone.push(id);
            } else if consumer.has_credit() {
                consumer.is_waiting = true;
                queue.waiting.push_back(id);
            }
        }
        for id in gone {
            self.end(id);
        }
    }

    fn wake_readers(&mut self) {
        for id in std::mem::take(&mut self.readers) {
            if let Some(consumer) = self.consumers.get_mut(&id) {
                consumer.is_waiting = false;
            }
            self.serve(id);
        }
    }

    /// Gives a reader what it has not read, as far as its credit goes.
    fn read_on(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        while consumer.has_credit() {
            let From::History(cursor) = consumer.from else {
                return;
            };
            let Some((offset, parcel)) = self.history.read(cursor) else {
                consumer.is_waiting = true;
                self.readers.push(id);
                return;
            };
            consumer.from = From::History(offset + 1);
            let entry = Entry {
                parcel: Arc::clone(parcel),
                is_redelivered: false,
            };
            if !lend(&self.me, id, consumer, entry, Some(offset)) {
                self.consumers.remove(&id);
                return;
            }
        }
    }
}

/// Sends a message to a consumer; `false` when the consumer is gone, and then it holds the message all the same.
fn lend(
    me: &Weak<Shared>,
    id: ConsumerId,
    consumer: &mut Consumer,
    entry: Entry,
    offset: Option<u64>,
) -> bool {
    consumer.tag += 1;
    let parcel = &entry.parcel;
    let lent = Lent {
        switch: Weak::clone(me),
        consumer: id,
        tag: consumer.tag,
    };
    let delivery = Delivery {
        exchange: parcel.exchange.to_owned(),
        key: parcel.key.clone(),
        message_id: Some(parcel.message_id.clone()),
        content_type: Some(parcel.content.content_type().to_owned()),
        body: parcel.body.clone(),
        is_redelivered: entry.is_redelivered,
        offset,
        settle: Box::new(lent),
    };
    consumer.lent.insert(consumer.tag, entry);
    // There is room: the channel has as many places as there can be credit.
    consumer.outgoing.try_send(delivery).is_ok()
}

fn target(binding: &Binding) -> Target {
    match &binding.destination {
        Destination::Exchange(name) => Target::Exchange(Arc::from(&**name)),
        Destination::Queue(name) => Target::Queue(Arc::from(&**name)),
    }
}

/// What the policies of [`topology`] say for a shared queue.
fn shared_overflow(name: &str) -> Overflow {
    let is_kept = [DEAD, topology::UNROUTED, DEATHS, FLAGS].contains(&name);
    if is_kept {
        Overflow::DropOldest
    } else {
        Overflow::Refuse
    }
}
