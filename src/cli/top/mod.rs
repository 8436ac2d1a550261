//! `longshore top`: queues, executors, tasks and events on one screen, and keys to act on them.
//!
//! | file | what it does |
//! | --- | --- |
//! | `model` | what is known, and where the operator is in it; pure |
//! | `rates`, `latency` | what events say of the last minute; pure |
//! | `keys` | what a key means, and what comes of it; pure |
//! | `view` | how it looks; pure |
//! | `details` | one thing in full; pure |
//! | `once` | the same without a terminal, as tables or JSON |
//! | `watch` | looks at the store, and listens to events |
//! | `deed` | carries out what was agreed to |
//! | `screen` | the terminal itself |

mod args;
mod deed;
mod details;
mod keys;
mod latency;
mod model;
mod once;
mod rates;
mod screen;
#[cfg(test)]
mod tests;
mod view;
mod watch;
mod words;

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch as channel};

pub(super) use args::TopArgs;
use deed::Hand;
use keys::{Command, intent};
use model::{Events, Model, News};
use screen::{Input, Screen};
use view::Theme;

use super::args::{Common, Flags};
use super::complaint::Complaint;
use super::output::{Format, Output};
use super::process;
use super::shutdown::Shutdown;
use super::status::ExitStatus;
use crate::background::Background;
use crate::broker::{BrokerAddress, NoBroker, Speaker};
use crate::client::Client;
use crate::config::{Config, env};
use crate::domain::WebId;
use crate::runtime::Runtime;
use crate::telemetry;

/// News that may lie unread; whoever brings more waits.
const NEWS_MAX: usize = 1_024;

/// How often the screen is drawn at most while events come.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);

/// How long what was agreed to may still take when the operator has quit.
const DEEDS_LIMIT: Duration = Duration::from_secs(5);

/// How often ages and rates are drawn anew when nothing happens.
const TICK: Duration = Duration::from_secs(1);

pub(super) async fn run(
    common: &Common,
    args: &TopArgs,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    let interval = interval(args.interval)?;
    let has_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let is_once = args.once || output.format() != Format::Table || !has_terminal;
    let mut config = common.load(Flags::new())?.config;
    if !is_once && std::io::stderr().is_terminal() {
        // The log would be written across the screen, which says the same.
        config.log.filter = "off"
            .parse()
            .map_err(|_| Complaint::failed("the log cannot be switched off"))?;
    }
    telemetry::init(&config.log);
    let mut shutdown = Shutdown::listen()?;
    let runtime = process::connect(&config, "top").await?;
    let ended = if is_once {
        once::run(&config, &runtime, interval, output).await
    } else {
        watch_it(&config, &runtime, interval, &mut shutdown).await
    };
    runtime.stop().await;
    ended
}

fn interval(seconds: f64) -> Result<Duration, Complaint> {
    if (0.2..=3600.0).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(Complaint::usage(format!(
        "`--interval` is from 0.2 to 3600 seconds, not {seconds}"
    )))
}

/// Nothing known yet, but whether events may come.
fn model(config: &Config, runtime: &Runtime, interval: Duration) -> Result<Model, Complaint> {
    let now = runtime.clock().monotonic();
    let (broker, events) = match config.broker.address()? {
        BrokerAddress::None => ("none", Events::Never("the broker is `none`".to_owned())),
        BrokerAddress::Embedded => (
            "embedded",
            Events::Never("the broker is embedded in another process".to_owned()),
        ),
        BrokerAddress::Amqp(_) => ("broker", Events::Come),
    };
    Ok(Model::new(now, interval, broker, events))
}

/// A client that acts. Where the broker gives no right to hear results, it acts through the store alone: whoever runs a
/// task is told by its next heartbeat.
async fn client(config: &Config, runtime: &Runtime) -> Result<Client, Complaint> {
    let settings = process::client_settings(config);
    if let Ok(client) = runtime.client(settings).await {
        return Ok(client);
    }
    let (store, clock) = (Arc::clone(runtime.store()), Arc::clone(runtime.clock()));
    let silent = Runtime::of(store, NoBroker::new(), clock, Background::new());
    Ok(silent.client(settings).await?)
}

/// Begins to listen, unless there is nothing to be heard.
fn listen(runtime: &Runtime, model: &Model, background: &Background, news: &mpsc::Sender<News>) {
    if matches!(model.events, Events::Never(_)) {
        return;
    }
    let broker = runtime.broker();
    background.spawn(watch::listen(Arc::clone(broker), news.clone()));
    background.spawn(watch::feel(broker.health(), news.clone()));
}

async fn watch_it(
    config: &Config,
    runtime: &Runtime,
    interval: Duration,
    shutdown: &mut Shutdown,
) -> Result<ExitStatus, Complaint> {
    let mut model = model(config, runtime, interval)?;
    let clock = runtime.clock();
    let id = WebId::new(clock.now(), clock.random());
    let hand = Hand {
        client: client(config, runtime).await?,
        store: Arc::clone(runtime.store()),
        broker: Arc::clone(runtime.broker()),
        speaker: Arc::new(Speaker::web(id, Arc::clone(clock))),
        by: env::operator(),
    };
    let background = Background::new();
    let (news, mut coming) = mpsc::channel(NEWS_MAX);
    let (wake, woken) = channel::channel(0_u64);
    background.spawn(watch::look(
        Arc::clone(runtime.store()),
        Arc::clone(clock),
        interval,
        news.clone(),
        woken,
    ));
    listen(runtime, &model, &background, &news);
    let mut screen = Screen::take()?;
    let mut typed = screen::read_keys(&background)?;
    let theme = Theme::new(config.log.no_color);
    let stage = Stage {
        runtime,
        hand,
        news,
        wake,
        deeds: Background::new(),
    };
    let ended = stage
        .play(
            &mut model,
            &mut screen,
            &mut coming,
            &mut typed,
            theme,
            shutdown,
        )
        .await;
    background.stop();
    drop((coming, typed)); // Whoever still brings something ends by that.
    drop(screen);
    tokio::select! {
        () = stage.deeds.ended() => {}
        () = clock.sleep(DEEDS_LIMIT) => {}
    }
    ended
}

/// What the loop needs beside what it changes.
struct Stage<'a> {
    runtime: &'a Runtime,
    hand: Hand,
    news: mpsc::Sender<News>,
    wake: channel::Sender<u64>,
    /// What was agreed to, and looks at one task.
    deeds: Background,
}

impl Stage<'_> {
    async fn play(
        &self,
        model: &mut Model,
        screen: &mut Screen,
        coming: &mut mpsc::Receiver<News>,
        typed: &mut mpsc::Receiver<std::io::Result<Input>>,
        theme: Theme,
        shutdown: &mut Shutdown,
    ) -> Result<ExitStatus, Complaint> {
        let clock = self.runtime.clock();
        let mut draw_at = Duration::ZERO;
        let mut heard = Vec::new();
        loop {
            let now = clock.monotonic();
            if now >= draw_at {
                model.tick(now);
                screen.draw(|frame| view::draw(frame, model, theme))?;
                draw_at = now + TICK;
            }
            let soon = now + DRAW_INTERVAL;
            tokio::select! {
                biased; // Keys first: a flood of events must not hold up the operator.
                () = shutdown.asked() => return Ok(ExitStatus::Done),
                input = typed.recv() => match input {
                    Some(Ok(Input::Key(key))) => {
                        let command = model.act(intent(key, &model.mode));
                        if command == Some(Command::Quit) {
                            return Ok(ExitStatus::Done);
                        }
                        self.carry_out(command);
                        draw_at = Duration::ZERO;
                    }
                    Some(Ok(Input::Resized)) => draw_at = Duration::ZERO,
                    Some(Err(error)) => return Err(error.into()),
                    None => return Ok(ExitStatus::Done), // The terminal is gone.
                },
                count = coming.recv_many(&mut heard, NEWS_MAX) => {
                    let now = clock.monotonic();
                    for news in heard.drain(..) {
                        model.hear(news, now);
                    }
                    draw_at = if count == 0 { draw_at } else { draw_at.min(soon) };
                }
                () = clock.sleep(draw_at.saturating_sub(now)) => {}
            }
        }
    }

    /// Beside the screen, which goes on; the store is looked at again when it is done.
    fn carry_out(&self, command: Option<Command>) {
        let (hand, news, wake) = (self.hand.clone(), self.news.clone(), self.wake.clone());
        match command {
            Some(Command::Explain(task)) => self.deeds.spawn(async move {
                drop(news.send(hand.explain(task).await).await);
            }),
            Some(Command::Do(deed)) => self.deeds.spawn(async move {
                drop(news.send(hand.carry_out(deed).await).await);
                wake.send_modify(|count| *count += 1);
            }),
            Some(Command::Quit) | None => {}
        }
    }
}
