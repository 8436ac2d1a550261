//! A TCP proxy that makes a server look as far away as it is told.
//!
//! A delay line: each piece that arrives is sent on when its time has come, however many are under way. So the delay costs
//! no bandwidth, unlike a pause after each read.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::background::Background;
use crate::clock::Clock;

/// Bytes of one piece.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// Pieces under way in one direction of one connection; whoever sends more waits.
const PIECES_MAX: usize = 1024;

/// Timers ring at the next full millisecond, half of one late on average. So they are set as much too early.
const HALF_A_TICK: Duration = Duration::from_micros(500);

/// A proxy in front of one server. Dropped, it cuts all connections and is gone.
#[derive(Debug)]
pub(super) struct Proxy {
    address: SocketAddr,
    background: Background,
}

impl Proxy {
    /// A proxy in front of `server` (`HOST:PORT`) on a free port of this host. It works on a thread of its own, so that what is
    /// measured does not hold it up.
    pub(super) fn before(
        server: &str,
        delay: Duration,
        clock: &Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let background = Background::new();
        let line = Line {
            server: server.to_owned(),
            delay,
            clock: Arc::clone(clock),
        };
        let stop = background.stop_token();
        background.spawn_apart("bench-proxy", async move {
            if let Err(error) = line.serve(listener, stop).await {
                tracing::error!(%error, "The proxy of the benchmark has ended: {error}");
            }
        })?;
        Ok(Self {
            address,
            background,
        })
    }

    /// Where it listens.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.background.stop();
    }
}

/// How a proxy carries.
struct Line {
    server: String,
    delay: Duration,
    clock: Arc<dyn Clock>,
}

impl Line {
    async fn serve(
        &self,
        listener: std::net::TcpListener,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        let mut connections = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                accepted = listener.accept() => {
                    // A client that went away in the meantime is no matter of ours.
                    if let Ok((client, _)) = accepted {
                        connections.push(self.carry(client));
                    }
                }
                Some(ended) = connections.next() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "A connection of the proxy has ended: {error}");
                    }
                }
            }
        }
    }

    /// Carries one connection until both sides have ended it.
    async fn carry(&self, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(&self.server).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let (up, down) = futures_util::join!(
            self.pump(from_client, to_server),
            self.pump(from_server, to_client)
        );
        up.and(down)
    }

    /// Carries one direction until its sender ends it, and then the end.
    async fn pump(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
        let (pieces, mut line) = mpsc::channel::<(Duration, Vec<u8>)>(PIECES_MAX);
        let take_in = async move {
            let mut piece = vec![0; PIECE_BYTES_MAX];
            while let Ok(bytes @ 1..) = from.read(&mut piece).await {
                let due = self.clock.monotonic() + self.delay;
                if pieces.send((due, piece[..bytes].to_vec())).await.is_err() {
                    return; // The other side is gone.
                }
            }
        };
        let send_on = async move {
            while let Some((due, piece)) = line.recv().await {
                let left = due.saturating_sub(self.clock.monotonic());
                let left = left.saturating_sub(HALF_A_TICK);
                if !left.is_zero() {
                    self.clock.sleep(left).await;
                }
                to.write_all(&piece).await?;
            }
            to.shutdown().await
        };
        let ((), sent) = futures_util::join!(take_in, send_on);
        sent
    }
}

/// The address of a server inside the address of a store or a broker: `HOST:PORT`; `None` when it names no host.
pub(super) fn authority(url: &str, default_port: u16) -> Option<String> {
    let (_, _, host) = parts(url)?;
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| {
        !port.is_empty() && port.chars().all(|digit| digit.is_ascii_digit())
    });
    let is_host = !host.is_empty() && !host.starts_with(':');
    is_host.then(|| {
        if has_port {
            host.to_owned()
        } else {
            format!("{}:{default_port}", host.trim_end_matches(':'))
        }
    })
}

/// The same address, by way of a proxy.
pub(super) fn through(url: &str, proxy: SocketAddr) -> Option<String> {
    let (before, after, _) = parts(url)?;
    Some(format!("{before}{proxy}{after}"))
}

/// What is before host and port in `url`, what is behind them, and they.
fn parts(url: &str) -> Option<(&str, &str, &str)> {
    let begin = url.find("://")? + 3;
    let end = url[begin..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |end| begin + end);
    let begin = url[begin..end]
        .rfind('@')
        .map_or(begin, |at| begin + at + 1);
    Some((&url[..begin], &url[end..], &url[begin..end]))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn host_and_port_are_found_and_replaced() {
        let proxy = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        for (url, host, replaced) in [
            (
                "postgres://u:p%40@h/d?x=@",
                Some("h:5432"),
                "postgres://u:p%40@127.0.0.1:1/d?x=@",
            ),
            ("amqp://h:7/%2f", Some("h:7"), "amqp://127.0.0.1:1/%2f"),
            ("amqp://[::1]", Some("[::1]:5432"), "amqp://127.0.0.1:1"),
            ("amqp://[::1]:7", Some("[::1]:7"), "amqp://127.0.0.1:1"),
            (
                "postgres:///d?host=/run",
                None,
                "postgres://127.0.0.1:1/d?host=/run",
            ),
        ] {
            assert_eq!(authority(url, 5432).as_deref(), host, "{url}");
            assert_eq!(through(url, proxy).as_deref(), Some(replaced), "{url}");
        }
        assert_eq!(authority("sqlite:x", 1), None);
    }

    #[tokio::test]
    async fn bytes_arrive_late_and_in_order_and_so_does_the_end() {
        let server = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = server.local_addr().unwrap().to_string();
        let echo = thread::spawn(move || {
            let (mut client, _) = server.accept().unwrap();
            let mut back = client.try_clone().unwrap();
            io::copy(&mut client, &mut back).unwrap();
        });
        let clock = SystemClock::shared();
        let delay = Duration::from_millis(20);
        let proxy = Proxy::before(&address, delay, &clock).unwrap();
        let client = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut answers, mut sender) = client.into_split();
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(3_000_000).collect();
        let words = bytes.clone();
        let begun = clock.monotonic();
        let send = async {
            sender.write_all(&words).await.unwrap();
            sender.shutdown().await.unwrap();
        };
        let mut heard = Vec::new();
        let hear = async {
            answers.read_to_end(&mut heard).await.unwrap();
        };
        futures_util::join!(send, hear);
        let took = clock.monotonic().saturating_sub(begun);
        assert!(heard == bytes);
        assert!(took + 2 * HALF_A_TICK >= 2 * delay, "{took:?}");
        echo.join().unwrap();
    }
}
