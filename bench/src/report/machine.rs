//! What it was measured on, as Linux tells it; elsewhere much of it is unknown.

use std::{env, fs, thread};

use super::model::Machine;

pub fn read() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let system = env::consts::OS;
    Machine {
        cpu: cpu(&read("/proc/cpuinfo")).unwrap_or_else(|| env::consts::ARCH.to_owned()),
        cores: thread::available_parallelism().map_or(1, std::num::NonZero::get),
        memory_gib: memory_gib(&read("/proc/meminfo")).unwrap_or(0.0),
        kernel: if kernel.is_empty() { system.to_owned() } else { format!("Linux {}", kernel.trim()) },
        os: os(&read("/etc/os-release")).unwrap_or_else(|| system.to_owned()),
    }
}

fn cpu(cpuinfo: &str) -> Option<String> {
    let names = ["model name", "Model", "Hardware", "cpu model"];
    names.iter().find_map(|name| field(cpuinfo, name, ':')).map(|model| words(&model))
}

fn memory_gib(meminfo: &str) -> Option<f64> {
    let total = field(meminfo, "MemTotal", ':')?;
    let kib: f64 = total.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0 / 1024.0)
}

fn os(os_release: &str) -> Option<String> {
    let name = field(os_release, "PRETTY_NAME", '=')?;
    Some(name.trim_matches(['"', '\'']).to_owned())
}

fn field(text: &str, name: &str, between: char) -> Option<String> {
    let mut fields = text.lines().filter_map(|line| line.split_once(between));
    let (_, value) = fields.find(|(field, value)| field.trim() == name && !value.trim().is_empty())?;
    Some(value.trim().to_owned())
}

/// Some processors write their names with spaces to spare.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_linux_are_read() {
        let cpuinfo = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: Intel(R)  Xeon(R) CPU   @ 2.20GHz\n";
        assert_eq!(cpu(cpuinfo).as_deref(), Some("Intel(R) Xeon(R) CPU @ 2.20GHz"));
        assert_eq!(cpu("processor : 0\nModel\t: Raspberry Pi 5\n").as_deref(), Some("Raspberry Pi 5"));
        assert_eq!(cpu("model name :\n"), None);
        assert_eq!(memory_gib("MemTotal:        8388608 kB\nMemFree: 1 kB\n"), Some(8.0));
        assert_eq!(memory_gib("MemTotal: much\n"), None);
        assert_eq!(os("ID=debian\nPRETTY_NAME=\"Debian 12\"\n").as_deref(), Some("Debian 12"));
        assert_eq!(os(""), None);
    }

    #[test]
    fn this_machine_has_a_name_and_a_core() {
        let machine = read();
        assert!(machine.cores >= 1 && !machine.cpu.is_empty() && !machine.kernel.is_empty());
    }
}
