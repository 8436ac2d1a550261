//! A TCP proxy in front of a server, which does to connections what networks do.
//!
//! It works on a thread of its own, so that it goes on while a test blocks its runtime's thread. It knows no
//! protocol: faults hit bytes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Bytes that are carried at once.
const CHUNK_BYTES_MAX: usize = 16 * 1024;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// What the client says.
    ToServer,
    /// What the server answers.
    ToClient,
}

/// What is done to what goes one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Flow {
    /// It arrives.
    #[default]
    Open,
    /// It waits until the proxy resumes: the connection is half-open.
    Held,
    /// It is taken and never arrives.
    Swallowed,
}

/// What happens to the next words of a client that contain something.
#[derive(Debug)]
struct Trap {
    words: Vec<u8>,
    /// Whether the server hears them, and only its answer is lost.
    lets_through: bool,
}

#[derive(Debug, Clone, Default)]
struct Mode {
    /// Counts cuts: a connection ends when it sees another number than at its beginning.
    cuts: u64,
    refuses: bool,
    to_server: Flow,
    to_client: Flow,
    delay: Duration,
}

impl Mode {
    fn flow(&self, direction: Direction) -> Flow {
        match direction {
            Direction::ToServer => self.to_server,
            Direction::ToClient => self.to_client,
        }
    }

    fn swallows(&self) -> bool {
        [self.to_server, self.to_client].contains(&Flow::Swallowed)
    }
}

/// A proxy in front of one server. Dropped, it cuts all connections and is gone.
pub(crate) struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    trap: Arc<Mutex<Option<Trap>>>,
}

impl Proxy {
    /// A proxy in front of the server of `url` (`postgres://…`, `amqp://…`), on a free port of this host.
    pub(crate) fn before(url: &str) -> Self {
        let server = authority(url).to_owned();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, seen) = watch::channel(Mode::default());
        let trap = Arc::new(Mutex::new(None));
        let traps = Arc::clone(&trap);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime
                .unwrap()
                .block_on(serve(listener, server, seen, traps));
        });
        Self {
            address,
            mode,
            trap,
        }
    }

    /// The same address, by way of this proxy.
    pub(crate) fn through(&self, url: &str) -> String {
        url.replacen(authority(url), &self.address.to_string(), 1)
    }

    /// Closes all connections now, both sides; new ones are taken.
    pub(crate) fn cut(&self) {
        self.mode.send_modify(|mode| mode.cuts += 1);
    }

    /// Closes all connections, and new ones at once.
    pub(crate) fn refuse(&self) {
        self.mode.send_modify(|mode| {
            mode.cuts += 1;
            mode.refuses = true;
        });
    }

    /// Keeps the sockets and carries nothing either way: a cut cable.
    pub(crate) fn hold(&self) {
        self.mode.send_modify(|mode| {
            mode.to_server = Flow::Held;
            mode.to_client = Flow::Held;
        });
    }

    /// Keeps the sockets and carries nothing one way.
    pub(crate) fn hold_one(&self, direction: Direction) {
        self.mode.send_modify(|mode| match direction {
            Direction::ToServer => mode.to_server = Flow::Held,
            Direction::ToClient => mode.to_client = Flow::Held,
        });
    }

    /// Carries what clients say; no answer arrives any more.
    pub(crate) fn swallow_answers(&self) {
        self.mode
            .send_modify(|mode| mode.to_client = Flow::Swallowed);
    }

    /// Every piece that arrives is late by `delay`.
    pub(crate) fn delay(&self, delay: Duration) {
        self.mode.send_modify(|mode| mode.delay = delay);
    }

    /// The next time that a client says something with `words` in it, the server hears it, its answer is lost, and the
    /// connection is cut. Once.
    pub(crate) fn lose_answer_to(&self, words: &str) {
        self.set_trap(words, true);
    }

    /// The next time that a client says something with `words` in it, the connection is cut instead. Once.
    pub(crate) fn lose(&self, words: &str) {
        self.set_trap(words, false);
    }

    fn set_trap(&self, words: &str, lets_through: bool) {
        let words = words.as_bytes().to_vec();
        *self.trap.lock().unwrap() = Some(Trap {
            words,
            lets_through,
        });
    }

    /// Whether what was to be lost is.
    pub(crate) fn has_sprung(&self) -> bool {
        self.trap.lock().unwrap().is_none()
    }

    /// Ends every fault and takes away the trap. What was held arrives; connections of which something was swallowed are cut.
    pub(crate) fn resume(&self) {
        *self.trap.lock().unwrap() = None;
        self.mode.send_modify(|mode| {
            *mode = Mode {
                cuts: mode.cuts + u64::from(mode.swallows()),
                ..Mode::default()
            };
        });
    }
}

/// The host and port of an address.
fn authority(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap();
    let end = rest.find('/').unwrap_or(rest.len());
    rest[..end].rsplit('@').next().unwrap()
}

/// Takes connections until the proxy is dropped.
async fn serve(
    listener: std::net::TcpListener,
    server: String,
    mut mode: watch::Receiver<Mode>,
    trap: Arc<Mutex<Option<Trap>>>,
) {
    let listener = TcpListener::from_std(listener).unwrap();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                if mode.borrow().refuses {
                    continue;
                }
                connections.spawn(carry(client, server.clone(), mode.clone(), Arc::clone(&trap)));
            }
            Some(_) = connections.join_next() => {}
            changed = mode.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Carries one connection until one side ends it, or it is cut.
async fn carry(
    client: TcpStream,
    server: String,
    mut mode: watch::Receiver<Mode>,
    trap: Arc<Mutex<Option<Trap>>>,
) {
    let cuts = mode.borrow().cuts;
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let ends_at_answer = watch::Sender::new(false);
    let pump = |direction, from, to| Pump {
        direction,
        from,
        to,
        mode: mode.clone(),
        trap: &trap,
        ends_at_answer: &ends_at_answer,
    };
    let up = pump(Direction::ToServer, from_client, to_server);
    let down = pump(Direction::ToClient, from_server, to_client);
    let (up, down) = (up.run(), down.run());
    tokio::select! {
        () = up => {}
        () = down => {}
        _ = mode.wait_for(|mode| mode.cuts != cuts) => {}
    }
}

/// One way of a connection.
struct Pump<'a> {
    direction: Direction,
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    mode: watch::Receiver<Mode>,
    trap: &'a Mutex<Option<Trap>>,
    /// Whether the next answer of this connection is lost, and ends it.
    ends_at_answer: &'a watch::Sender<bool>,
}

impl Pump<'_> {
    /// Carries until the connection shall end.
    async fn run(mut self) {
        let mut chunk = vec![0; CHUNK_BYTES_MAX];
        loop {
            let Ok(bytes @ 1..) = self.from.read(&mut chunk).await else {
                return self.is_not_held().await;
            };
            self.is_not_held().await;
            let (delay, flow) = {
                let mode = self.mode.borrow();
                (mode.delay, mode.flow(self.direction))
            };
            if !delay.is_zero() {
                pause(delay).await;
            }
            if self.is_over(&chunk[..bytes]) {
                return;
            }
            if flow != Flow::Swallowed && self.to.write_all(&chunk[..bytes]).await.is_err() {
                return;
            }
        }
    }

    /// Waits while this way is held; an end is held as well: of a cut cable nobody hears.
    async fn is_not_held(&mut self) {
        let direction = self.direction;
        let open = |mode: &Mode| mode.flow(direction) != Flow::Held;
        // An error says that the proxy is gone, and then the connection is, too.
        drop(self.mode.wait_for(open).await);
    }

    /// Whether the connection ends with what was said just now, unheard.
    fn is_over(&self, said: &[u8]) -> bool {
        if self.direction == Direction::ToClient {
            return *self.ends_at_answer.borrow();
        }
        let mut trap = self.trap.lock().unwrap();
        let has_words = |trap: &mut Trap| said.windows(trap.words.len()).any(|it| it == trap.words);
        let Some(sprung) = trap.take_if(has_words) else {
            return false;
        };
        self.ends_at_answer.send_replace(sprung.lets_through);
        !sprung.lets_through
    }
}

#[expect(clippy::disallowed_methods, reason = "a delay is what was asked for")]
async fn pause(delay: Duration) {
    tokio::time::sleep(delay).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says everything back, and a client of it by way of a proxy.
    struct Echo {
        proxy: Proxy,
        /// The server's address; what it heard comes back by its connections, and is counted here.
        url: String,
        heard: watch::Receiver<Vec<u8>>,
        _server: JoinSet<()>,
    }

    impl Echo {
        async fn begin() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (heard, hearing) = watch::channel(Vec::new());
            let mut server = JoinSet::new();
            server.spawn(async move {
                let mut connections = JoinSet::new();
                while let Ok((mut stream, _)) = listener.accept().await {
                    let heard = heard.clone();
                    connections.spawn(async move {
                        let mut chunk = [0; 64];
                        while let Ok(bytes @ 1..) = stream.read(&mut chunk).await {
                            heard.send_modify(|all| all.extend(&chunk[..bytes]));
                            if stream.write_all(&chunk[..bytes]).await.is_err() {
                                return;
                            }
                        }
                    });
                }
            });
            let url = format!("amqp://me:secret@{address}/v");
            Self {
                proxy: Proxy::before(&url),
                url,
                heard: hearing,
                _server: server,
            }
        }

        async fn client(&self) -> TcpStream {
            let through = self.proxy.through(&self.url);
            TcpStream::connect(authority(&through)).await.unwrap()
        }

        /// Waits until the server has heard `words`, all in all.
        async fn has_heard(&mut self, words: &str) {
            let hearing = self.heard.wait_for(|heard| heard == words.as_bytes());
            within_patience(hearing).await.unwrap();
        }
    }

    async fn within_patience<T>(work: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(30), work)
            .await
            .expect("it ends in time")
    }

    async fn say(client: &mut TcpStream, words: &str) {
        client.write_all(words.as_bytes()).await.unwrap();
    }

    /// The next answer; empty when the connection ended.
    async fn answer(client: &mut TcpStream) -> String {
        let mut chunk = [0; 64];
        let bytes = within_patience(client.read(&mut chunk)).await.unwrap_or(0);
        String::from_utf8_lossy(&chunk[..bytes]).into_owned()
    }

    /// Whether an answer has come, as far as anybody can tell by saying something else on another connection and
    /// waiting for that.
    async fn is_silent(client: &TcpStream) -> bool {
        let mut chunk = [0; 1];
        let peeked = tokio::time::timeout(Duration::from_millis(100), client.peek(&mut chunk));
        peeked.await.is_err()
    }

    #[tokio::test]
    async fn an_address_leads_through_the_proxy_and_keeps_everything_else() {
        let echo = Echo::begin().await;
        let through = echo.proxy.through(&echo.url);
        let port = echo.proxy.address.port();
        assert_eq!(through, format!("amqp://me:secret@127.0.0.1:{port}/v"));
        let mut client = echo.client().await;
        say(&mut client, "hello").await;
        assert_eq!(answer(&mut client).await, "hello");
    }

    #[tokio::test]
    async fn a_cut_ends_what_is_there_and_a_refusal_what_comes_as_well() {
        let echo = Echo::begin().await;
        let mut client = echo.client().await;
        say(&mut client, "a").await;
        assert_eq!(answer(&mut client).await, "a");
        echo.proxy.cut();
        assert_eq!(answer(&mut client).await, "");
        let mut client = echo.client().await;
        say(&mut client, "b").await;
        assert_eq!(answer(&mut client).await, "b");
        echo.proxy.refuse();
        assert_eq!(answer(&mut client).await, "");
        assert_eq!(answer(&mut echo.client().await).await, "");
        echo.proxy.resume();
        let mut client = echo.client().await;
        say(&mut client, "c").await;
        assert_eq!(answer(&mut client).await, "c");
    }

    #[tokio::test]
    async fn what_is_held_arrives_when_it_resumes() {
        let mut echo = Echo::begin().await;
        let mut client = echo.client().await;
        echo.proxy.hold_one(Direction::ToClient);
        say(&mut client, "a").await;
        echo.has_heard("a").await;
        assert!(is_silent(&client).await);
        echo.proxy.hold();
        say(&mut client, "b").await;
        assert!(is_silent(&client).await);
        assert_eq!(*echo.heard.borrow(), b"a");
        echo.proxy.resume();
        echo.has_heard("ab").await;
        let mut all = answer(&mut client).await;
        if all == "a" {
            all += &answer(&mut client).await;
        }
        assert_eq!(all, "ab");
    }

    #[tokio::test]
    async fn a_delay_makes_every_piece_late() {
        let echo = Echo::begin().await;
        let mut client = echo.client().await;
        echo.proxy.delay(Duration::from_millis(200));
        say(&mut client, "a").await;
        assert!(is_silent(&client).await);
        assert_eq!(answer(&mut client).await, "a");
    }

    #[tokio::test]
    async fn an_answer_is_lost_after_the_server_has_heard() {
        let mut echo = Echo::begin().await;
        let mut client = echo.client().await;
        echo.proxy.lose_answer_to("commit");
        say(&mut client, "begin").await;
        assert_eq!(answer(&mut client).await, "begin");
        say(&mut client, "commit").await;
        assert_eq!(answer(&mut client).await, "");
        echo.has_heard("begincommit").await;
        assert!(echo.proxy.has_sprung());
        let mut client = echo.client().await;
        say(&mut client, "commit").await;
        assert_eq!(answer(&mut client).await, "commit");
    }

    #[tokio::test]
    async fn words_are_lost_before_the_server_hears_them() {
        let mut echo = Echo::begin().await;
        let mut client = echo.client().await;
        echo.proxy.lose("commit");
        say(&mut client, "commit").await;
        assert_eq!(answer(&mut client).await, "");
        let mut client = echo.client().await;
        say(&mut client, "x").await;
        echo.has_heard("x").await;
        assert_eq!(answer(&mut client).await, "x");
    }

    #[tokio::test]
    async fn answers_that_were_swallowed_never_come() {
        let mut echo = Echo::begin().await;
        let mut client = echo.client().await;
        echo.proxy.swallow_answers();
        say(&mut client, "a").await;
        echo.has_heard("a").await;
        assert!(is_silent(&client).await);
        echo.proxy.resume();
        assert_eq!(answer(&mut client).await, "");
    }
}
