//! How much processor time processes have used, from `/proc`.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// `/proc` counts in hundredths of a second on every architecture of Linux (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// One line of `/proc/PID/stat`.
struct Stat {
    parent: u32,
    /// User and system time of the process.
    own: u32,
    /// The same of its children that have ended.
    ended: u32,
}

/// Time used by the processes, in user and system mode.
pub(crate) fn used(pids: &[u32]) -> Result<Duration> {
    pids.iter()
        .map(|&pid| Ok(TICK * stat(pid).with_context(|| format!("process {pid} has ended"))?.own))
        .sum()
}

/// Time used by a process and by all of its children, living and ended.
pub(crate) fn used_by_family(pid: u32) -> Result<Duration> {
    let parent = stat(pid).with_context(|| format!("process {pid} has ended"))?;
    let children = fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(stat)
        .filter(|child| child.parent == pid);
    Ok(TICK * (parent.own + parent.ended + children.map(|child| child.own).sum::<u32>()))
}

/// None if there is no such process.
fn stat(pid: u32) -> Option<Stat> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold blanks and brackets; the third field is the first after it.
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u32>().ok();
    Some(Stat { parent: field(4)?, own: field(14)? + field(15)?, ended: field(16)? + field(17)? })
}
