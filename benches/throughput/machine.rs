//! Processor time of our processes and of the whole machine, memory and load, from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

/// The processor time (user and system) of each thread of a process, in nanoseconds.
#[derive(Clone, Default)]
pub(crate) struct Spent(HashMap<String, u64>);

impl Spent {
    pub(crate) fn of(pid: u32) -> Self {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten();
        let spent = |task: fs::DirEntry| {
            let times = fs::read_to_string(task.path().join("schedstat")).ok()?;
            Some((
                task.file_name().to_string_lossy().into_owned(),
                times.split(' ').next()?.parse().ok()?,
            ))
        };
        Self(tasks.filter_map(spent).collect())
    }

    /// Returns the time since then. Time of threads that have ended in between is lost.
    pub(crate) fn since(&self, earlier: &Self) -> u64 {
        self.0
            .iter()
            .map(|(task, now)| now.saturating_sub(earlier.0.get(task).copied().unwrap_or(0)))
            .sum()
    }
}

/// The machine's processor time in ticks of 10 ms: busy, and total.
#[derive(Clone, Copy)]
pub(crate) struct Machine {
    busy: u64,
    all: u64,
}

impl Machine {
    pub(crate) fn now() -> Option<Self> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        // user nice system idle iowait irq softirq steal; the first two include the later fields.
        let fields: Vec<u64> = stat
            .lines()
            .next()?
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|f| f.parse().ok())
            .collect();
        let all: u64 = fields.iter().sum();
        let idle: u64 = fields.iter().skip(3).take(2).sum();
        Some(Self {
            busy: all - idle,
            all,
        })
    }

    /// Returns the share of other processes since then, given the nanoseconds of our own.
    pub(crate) fn others_since(self, earlier: Self, ours: u64) -> f64 {
        let busy = (self.busy - earlier.busy) as f64 * TICK_NANOS;
        let all = (self.all - earlier.all) as f64 * TICK_NANOS;
        ((busy - ours as f64) / all.max(1.0)).max(0.0)
    }
}

/// Resident memory in MiB.
pub(crate) fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

/// The load averages, as the system writes them.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Returns `true` if processes can be pinned to cores.
pub(crate) fn can_pin() -> bool {
    let two = std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2);
    two && Command::new("taskset")
        .args(["-c", "1", "true"])
        .status()
        .is_ok_and(|status| status.success())
}

/// Pins all threads of this process to core 1.
pub(crate) fn pin_me() {
    let pid = std::process::id().to_string();
    let _ = Command::new("taskset")
        .args(["-a", "-c", "-p", "1", &pid])
        .stdout(std::process::Stdio::null())
        .status();
}

const TICK_NANOS: f64 = 1e7;
