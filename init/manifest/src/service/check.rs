//! The rules that manifests must keep, each with a remedy.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use skink_abi::layout::{HEAP, HEAP_END, STACK_BYTES, STATE_REGION, STATE_REGION_END};

use super::{Grant, MAX_SERVICES, PINNED_LEVEL, Service, TOP_LEVEL};

/// Longest name of a service or handle, bytes: what a process name has room for.
const MAX_NAME: usize = skink_abi::NAME_BYTES;
/// Most memory a pinned service may ask for, bytes: it is reserved twice.
const MAX_PINNED_HEAP: u64 = 16 << 20;
/// Most contiguous memory for devices, bytes.
const MAX_DMA: u64 = 64 << 20;
/// Interrupt lines of the ISA bus.
const LINES: u32 = 16;
/// Handles that services get without asking.
const RESERVED: [&str; 8] = [
    "self",
    "notification",
    "init",
    "system",
    "memory",
    "bundle",
    "dma",
    "process",
];

/// A rule that a manifest breaks, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The service.
    pub service: String,
    /// The field.
    pub field: &'static str,
    /// What is wrong and how to cure it.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.service, self.field, self.text)
    }
}

/// Returns everything that is wrong with a set of services; none if they can be started.
pub fn check(services: &[Service]) -> Vec<Problem> {
    let mut found = Findings {
        service: "",
        problems: Vec::new(),
    };
    if services.len() > MAX_SERVICES {
        found.add("name", format!("more than {MAX_SERVICES} services"));
        return found.problems;
    }
    let mut ram_owner: Option<&str> = None;
    for (position, service) in services.iter().enumerate() {
        found.service = &service.name;
        check_name(&mut found, "name", &service.name);
        if services[..position]
            .iter()
            .any(|earlier| earlier.name == service.name)
        {
            found.add("name", "used by two manifests; rename one".to_string());
        }
        if service.rights.has(Grant::Ram) {
            if let Some(owner) = ram_owner {
                found.add(
                    "grants",
                    format!("`ram` already goes to {owner}; only one can have it"),
                );
            }
            ram_owner = Some(&service.name);
        }
        check_calls(&mut found, service, services);
        check_sizes(&mut found, service);
        check_devices(&mut found, service);
        check_times(&mut found, service);
    }
    found.problems
}

struct Findings<'a> {
    service: &'a str,
    problems: Vec<Problem>,
}

impl Findings<'_> {
    fn add(&mut self, field: &'static str, text: String) {
        self.problems.push(Problem {
            service: self.service.to_string(),
            field,
            text,
        });
    }
}

fn check_name(found: &mut Findings<'_>, field: &'static str, name: &str) {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(plain) {
        let text = format!(
            "{name:?} is no name; use 1 to {MAX_NAME} lower-case letters, digits and hyphens"
        );
        found.add(field, text);
    } else if RESERVED.contains(&name) || is_ram_name(name) {
        found.add(
            field,
            format!("`{name}` is the name of a handle that every service may get"),
        );
    }
}

fn is_ram_name(name: &str) -> bool {
    name.strip_prefix("ram")
        .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

fn check_calls(found: &mut Findings<'_>, service: &Service, services: &[Service]) {
    if service.level > TOP_LEVEL {
        found.add(
            "level",
            format!("{} is over the highest level {TOP_LEVEL}", service.level),
        );
    }
    for (position, name) in service.calls.iter().enumerate() {
        if service.calls[..position].contains(name) {
            found.add("calls", format!("`{name}` stands there twice"));
        }
        match services.iter().find(|other| other.name == *name) {
            None => {
                let text = format!(
                    "no service is named `{name}`; add init/services/{name}.toml or remove the name"
                );
                found.add("calls", text);
            }
            Some(other) if other.level >= service.level => {
                let text = format!(
                    "`{name}` has level {}, but services at level {} may only call lower ones; send \
                     news upwards by notification or ring",
                    other.level, service.level
                );
                found.add("calls", text);
            }
            Some(_) => {}
        }
    }
}

fn check_sizes(found: &mut Findings<'_>, service: &Service) {
    let memory = &service.memory;
    let heap_limit = if service.level <= PINNED_LEVEL {
        MAX_PINNED_HEAP
    } else {
        HEAP_END - HEAP
    };
    for (field, bytes, least, most) in [
        ("heap", memory.heap, 1, heap_limit),
        ("stack", memory.stack, 1, STACK_BYTES),
        ("kernel-memory", memory.kernel, 4096, 1 << 30),
        ("state", memory.state, 0, STATE_REGION_END - STATE_REGION),
        ("dma", memory.dma, 0, MAX_DMA),
    ] {
        if !(least..=most).contains(&bytes) {
            found.add(
                field,
                format!("{bytes} bytes; must be from {least} to {most}"),
            );
        }
    }
}

fn check_devices(found: &mut Findings<'_>, service: &Service) {
    for ports in &service.ports {
        check_name(found, "ports", &ports.name);
        if ports.count == 0 || u32::from(ports.first) + u32::from(ports.count) > 0x1_0000 {
            found.add(
                "ports",
                format!("`{}` has no port or one past 65535", ports.name),
            );
        }
    }
    for line in &service.interrupts {
        check_name(found, "interrupts", &line.name);
        if line.line >= LINES {
            found.add(
                "interrupts",
                format!("there are lines 0 to {}, not {}", LINES - 1, line.line),
            );
        }
    }
    let ports = service.ports.iter().map(|ports| &ports.name);
    let lines = service.interrupts.iter().map(|line| &line.name);
    let names: Vec<&String> = service.calls.iter().chain(ports).chain(lines).collect();
    for (position, name) in names.iter().enumerate().skip(service.calls.len()) {
        if names[..position].contains(name) {
            found.add(
                "ports",
                format!("two handles are named `{name}`; rename one"),
            );
        }
    }
}

fn check_times(found: &mut Findings<'_>, service: &Service) {
    let restart = &service.restart;
    if restart.max_delay_ms < restart.min_delay_ms {
        found.add(
            "restart",
            "max-delay-ms is less than min-delay-ms".to_string(),
        );
    }
    if service.heartbeat.period_ms > 0 && service.heartbeat.timeout_ms == 0 {
        found.add(
            "heartbeat",
            "a period needs a timeout-ms; set period-ms = 0 for none".to_string(),
        );
    }
}
