//! What a process used, as Linux tells it, and finding the processes of servers on this host.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;

/// Clock ticks in a second, as `/proc/PID/stat` counts them: 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// Seconds of CPU, in user code and kernel.
    pub(super) cpu_s: f64,
    /// KiB of memory in use now.
    pub(super) rss_kib: u64,
}

/// One line of `/proc/PID/stat`.
struct Stat {
    parent: u32,
    cpu_s: f64,
    /// Of its children that ended and were waited for.
    ended_cpu_s: f64,
}

impl Stat {
    /// Source: proc(5), `/proc/pid/stat` fields 4 and 14 to 17.
    fn of(process: u32) -> Option<Self> {
        let stat = fs::read_to_string(folder(process).join("stat")).ok()?;
        // The name, in brackets, may hold blanks: the fields are counted behind it, the third is the first there.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let seconds = |field: usize| -> Option<f64> {
            Some(fields.get(field - 3)?.parse::<f64>().ok()? / TICKS_PER_SECOND)
        };
        Some(Self {
            parent: fields.get(4 - 3)?.parse().ok()?,
            cpu_s: seconds(14)? + seconds(15)?,
            ended_cpu_s: seconds(16)? + seconds(17)?,
        })
    }
}

impl Usage {
    /// What this process used.
    pub(super) fn own() -> Self {
        Self::of(std::process::id())
    }

    /// What a process used; nothing where that is not told.
    ///
    /// Source: proc(5), `/proc/pid/status` field `VmRSS`.
    pub(super) fn of(process: u32) -> Self {
        let status = fs::read_to_string(folder(process).join("status")).unwrap_or_default();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss_kib = rss
            .and_then(|rss| rss.split_whitespace().next()?.parse().ok())
            .unwrap_or(0);
        Self {
            cpu_s: Stat::of(process).map_or(0.0, |stat| stat.cpu_s),
            rss_kib,
        }
    }

    /// MiB of memory in use.
    pub(super) fn rss_mib(self) -> f64 {
        real(self.rss_kib) / 1024.0
    }
}

/// The seconds of CPU that a process, its children and those of its children that it has buried used; `None` when
/// it is not here.
pub(super) fn family_cpu_s(process: u32) -> Option<f64> {
    let head = Stat::of(process)?;
    let children = processes()
        .filter_map(Stat::of)
        .filter(|stat| stat.parent == process);
    Some(head.cpu_s + head.ended_cpu_s + children.map(|child| child.cpu_s).sum::<f64>())
}

/// The process that started `process`.
pub(super) fn parent(process: u32) -> Option<u32> {
    Stat::of(process).map(|stat| stat.parent)
}

/// How a process calls itself: for the processes of a PostgreSQL server whom they serve, with the port.
pub(super) fn title(process: u32) -> Option<String> {
    let title = fs::read(folder(process).join("cmdline")).ok()?;
    Some(String::from_utf8_lossy(&title).into_owned())
}

/// The name of a process's program.
pub(super) fn program(process: u32) -> Option<String> {
    let name = fs::read_to_string(folder(process).join("comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// The process that listens on a TCP port of this host; `None` when nobody does, or it is not ours to see.
///
/// Source: proc(5), `/proc/net/tcp`; state `0A` is `LISTEN`, the tenth field is the socket's inode.
pub(super) fn listener(port: u16) -> Option<u32> {
    let suffix = format!(":{port:04X}");
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).ok());
    let sockets: BTreeSet<String> = tables
        .iter()
        .flatten()
        .flat_map(|table| table.lines().skip(1))
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listens = fields.get(1)?.ends_with(&suffix) && *fields.get(3)? == "0A";
            listens.then(|| format!("socket:[{}]", fields.get(9).copied().unwrap_or_default()))
        })
        .collect();
    processes().find(|process| {
        let files = fs::read_dir(folder(*process).join("fd"));
        files.into_iter().flatten().flatten().any(|file| {
            let target = fs::read_link(file.path()).unwrap_or_default();
            sockets.contains(target.to_string_lossy().as_ref())
        })
    })
}

/// Whether an address is one of this host: only such can be bound.
pub(super) fn is_here(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn folder(process: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{process}"))
}

/// A count as a number to reckon with. Exact up to 2^32, which nothing here reaches; beyond that the nearest below.
pub(super) fn real(count: u64) -> f64 {
    let (high, low) = (count >> 32, count & u64::from(u32::MAX));
    let part = |part: u64| f64::from(u32::try_from(part).unwrap_or(u32::MAX));
    part(high) * (f64::from(u32::MAX) + 1.0) + part(low)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn counts_are_exact() {
        assert!((real(7) - 7.0).abs() < f64::EPSILON);
        assert!((real(1 << 40) - 1_099_511_627_776.0).abs() < f64::EPSILON);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_is_found_by_the_port_it_listens_on_and_measured() {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let own = std::process::id();
        assert_eq!(listener(socket.local_addr().unwrap().port()), Some(own));
        assert!(Usage::own().rss_kib > 0);
        assert!(family_cpu_s(own).unwrap() >= Usage::own().cpu_s * 0.5);
        assert_eq!(parent(own), Some(std::os::unix::process::parent_id()));
        assert!(program(own).is_some() && title(own).is_some());
        assert!(is_here(Ipv4Addr::LOCALHOST.into()));
        // Kept for documentation (RFC 5737): nobody has it.
        assert!(!is_here(Ipv4Addr::new(192, 0, 2, 1).into()));
    }
}
