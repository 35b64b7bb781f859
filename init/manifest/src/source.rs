//! From TOML to the compiled form; on the host only.

mod size;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::service::{
    self, Grant, Heartbeat, Line, MemorySizes, Ports, Privileges, Restart, RestartPolicy, Service,
    SystemRight, check,
};
use size::Size;

/// A manifest as it is written. Missing fields have the defaults of [`Manifest::into_service`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Manifest {
    name: String,
    /// For people.
    #[serde(rename = "description")]
    _description: String,
    image: Option<String>,
    level: u8,
    #[serde(default)]
    calls: Vec<String>,
    #[serde(default)]
    arguments: Vec<String>,
    heap: Option<Size>,
    stack: Option<Size>,
    kernel_memory: Option<Size>,
    state: Option<Size>,
    dma: Option<Size>,
    #[serde(default)]
    system: Vec<SystemRight>,
    #[serde(default)]
    grants: Vec<Grant>,
    #[serde(default)]
    ports: Vec<Ports>,
    #[serde(default)]
    interrupts: Vec<Line>,
    #[serde(default)]
    restart: RestartTable,
    #[serde(default)]
    heartbeat: HeartbeatTable,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RestartTable {
    policy: RestartPolicy,
    min_delay_ms: u32,
    max_delay_ms: u32,
    reset_after_s: u32,
}

impl Default for RestartTable {
    fn default() -> Self {
        Self {
            policy: RestartPolicy::Always,
            min_delay_ms: 10,
            max_delay_ms: 5_000,
            reset_after_s: 10,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct HeartbeatTable {
    period_ms: u32,
    timeout_ms: u32,
    request_ms: u32,
}

impl Default for HeartbeatTable {
    // A hang is found within 100 ms, also by one of two or three that share a CPU: 20 until the first
    // look that sees no turn, 30 of CPU time, up to 10 until that is billed and 10 until it is looked at.
    // A server that turns within 20 of CPU time is never blamed.
    fn default() -> Self {
        Self {
            period_ms: 10,
            timeout_ms: 30,
            request_ms: 0,
        }
    }
}

impl Manifest {
    fn into_service(self) -> Service {
        let bytes = |size: Option<Size>, default: u64| size.map_or(default, |size| size.0);
        let default_heap = if self.level <= service::PINNED_LEVEL {
            256 << 10
        } else {
            16 << 20
        };
        Service {
            image: self.image.unwrap_or_else(|| self.name.clone()),
            name: self.name,
            level: self.level,
            calls: self.calls,
            arguments: self.arguments,
            memory: MemorySizes {
                heap: bytes(self.heap, default_heap),
                stack: bytes(self.stack, 64 << 10),
                kernel: bytes(self.kernel_memory, 256 << 10),
                state: bytes(self.state, 0),
                dma: bytes(self.dma, 0),
            },
            rights: Privileges {
                system: self.system,
                grants: self.grants,
            },
            ports: self.ports,
            interrupts: self.interrupts,
            restart: Restart {
                policy: self.restart.policy,
                min_delay_ms: self.restart.min_delay_ms,
                max_delay_ms: self.restart.max_delay_ms,
                reset_after_s: self.restart.reset_after_s,
            },
            heartbeat: Heartbeat {
                period_ms: self.heartbeat.period_ms,
                timeout_ms: self.heartbeat.timeout_ms,
                request_ms: self.heartbeat.request_ms,
            },
        }
    }
}

/// Compiles manifests, given as file name and text, to what `init` reads from the boot bundle.
///
/// # Errors
///
/// Everything that is wrong, one line each, with file, field and remedy.
pub fn compile(files: &[(&str, &str)]) -> Result<Vec<u8>, String> {
    let mut errors = Vec::new();
    let mut services = Vec::new();
    let mut file_of = BTreeMap::new();
    for (file, text) in files {
        match toml::from_str::<Manifest>(text) {
            Err(error) => errors.push(format!("{file}: {}", error.to_string().trim_end())),
            Ok(manifest) => {
                let stem = file.rsplit('/').next().unwrap_or(file);
                let stem = stem.strip_suffix(".toml").unwrap_or(stem);
                if stem != manifest.name {
                    let name = &manifest.name;
                    errors.push(format!(
                        "{file}: name: `{name}`; rename the file to {name}.toml"
                    ));
                }
                file_of.entry(manifest.name.clone()).or_insert(*file);
                services.push(manifest.into_service());
            }
        }
    }
    if errors.is_empty() {
        errors.extend(check(&services).iter().map(|problem| {
            let file = file_of.get(&problem.service).unwrap_or(&"init/services");
            format!("{file}: {}: {}", problem.field, problem.text)
        }));
    }
    if !errors.is_empty() {
        return Err(errors.join("\n"));
    }
    sort_for_start(&mut services);
    service::encode(&services).map_err(|error| format!("service manifests: {error}"))
}

/// Puts services into the order in which they are started: by level, and within a level by name,
/// so that the result does not depend on the order of the files. Calls go to lower levels only,
/// so a service comes after all that it calls.
fn sort_for_start(services: &mut [Service]) {
    services.sort_by(|a, b| (a.level, &a.name).cmp(&(b.level, &b.name)));
}
