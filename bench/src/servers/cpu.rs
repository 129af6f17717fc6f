//! Processor time of processes and all that descend from them, from `/proc`.

use std::collections::BTreeMap;

use nix::unistd::{SysconfVar, sysconf};

/// What `/proc/PID/stat` says.
struct Stat {
    state: char,
    parent: u32,
    /// Ticks of its own and of its children that it has waited for.
    ticks: u64,
}

/// Seconds in user and kernel mode, of these processes and their descendants, those that have ended included.
pub fn cpu_seconds(pids: &[u32]) -> f64 {
    let stats = all();
    let ticks: u64 =
        stats.iter().filter(|(pid, _)| descends(&stats, **pid, pids)).map(|(_, stat)| stat.ticks).sum();
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    #[expect(clippy::cast_precision_loss, reason = "hundredths of seconds, for people")]
    let seconds = ticks as f64 / per_second as f64;
    seconds
}

/// A process that ended and was not waited for is not running.
pub fn is_running(pid: u32) -> bool {
    read(pid).is_some_and(|stat| stat.state != 'Z')
}

fn descends(stats: &BTreeMap<u32, Stat>, pid: u32, ancestors: &[u32]) -> bool {
    let parents = std::iter::successors(Some(pid), |pid| stats.get(pid).map(|stat| stat.parent));
    // A process that took its parent's number while we read makes a circle.
    parents.take(100).any(|pid| ancestors.contains(&pid))
}

fn all() -> BTreeMap<u32, Stat> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, read(pid)?))).collect()
}

fn read(pid: u32) -> Option<Stat> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name in brackets may hold anything, so the rest counts from the last bracket. See proc(5): state is field 3,
/// ppid 4, utime to cstime 14 to 17.
fn parse(stat: &str) -> Option<Stat> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(Stat { state: fields[0].chars().next()?, parent: fields[1].parse().ok()?, ticks })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn fields_count_from_the_last_bracket() {
        let stat = parse("7 (a) b) S 3 7 7 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1").unwrap();
        assert_eq!((stat.state, stat.parent, stat.ticks), ('S', 3, 100));
        assert!(parse("7 (a").is_none());
    }

    #[test]
    fn children_count_whether_they_live_or_were_waited_for() {
        let own = [std::process::id()];
        let before = cpu_seconds(&own);
        let busy = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        let script = format!("({busy}); {busy}; echo; cat");
        let mut shell = Command::new("sh")
            .args(["-c", &script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut one = [0];
        std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut one).unwrap();
        let of_child = cpu_seconds(&[shell.id()]);
        assert!(of_child > 0.0);
        assert!(cpu_seconds(&own) >= before + of_child, "it descends from us");
        assert!(is_running(shell.id()));
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert!(!is_running(shell.id()));
        assert!(cpu_seconds(&own) >= before + of_child, "we have waited for it");
    }
}
