//! Compiling manifests: the project's own, and wrong ones with what is said about them.
#![cfg(feature = "std")]

use std::path::Path;

use proptest::prelude::*;
use skink_manifest::service::{DecodeError, Grant, RestartPolicy, check};
use skink_manifest::{Service, compile, decode};

const SERVER: &str = "name = \"server\"\ndescription = \"Serves.\"\nlevel = 1\n";

fn refusal(files: &[(&str, &str)]) -> String {
    compile(files).expect_err("must be refused")
}

/// Compiles `SERVER` and a client with further lines, which must be refused.
fn client_refusal(lines: &str) -> String {
    let client = format!("name = \"client\"\ndescription = \"Calls.\"\nlevel = 4\n{lines}\n");
    refusal(&[
        ("services/server.toml", SERVER),
        ("services/client.toml", &client),
    ])
}

fn project_services() -> Vec<Service> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../services");
    let files: Vec<(String, String)> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .map(|path| {
            (
                path.display().to_string(),
                std::fs::read_to_string(path).expect("UTF-8"),
            )
        })
        .collect();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    decode(&compile(&files).unwrap_or_else(|error| panic!("{error}"))).expect("decodes")
}

#[test]
fn the_projects_manifests_compile_in_start_order() {
    let services = project_services();
    let position = |name: &str| {
        services
            .iter()
            .position(|other| other.name == name)
            .unwrap()
    };
    for service in &services {
        for callee in &service.calls {
            assert!(
                position(callee) < position(&service.name),
                "{} {callee}",
                service.name
            );
        }
    }
    let shell = &services[position("shell")];
    assert!(shell.rights.has(Grant::Control) && !shell.is_pinned());
    assert_eq!(shell.restart.policy, RestartPolicy::Always);
    let console = &services[position("console")];
    assert_eq!(
        (console.ports[0].first, console.interrupts[0].line),
        (0x3f8, 4)
    );
}

#[test]
fn defaults_are_those_of_the_guide() {
    let bytes = compile(&[("server.toml", SERVER)]).unwrap();
    let [server] = decode(&bytes).unwrap().try_into().unwrap();
    assert_eq!(server.image, "server");
    assert_eq!(server.memory.heap, 256 << 10);
    assert_eq!(server.restart.policy, RestartPolicy::Always);
    let heartbeat = server.heartbeat;
    assert_eq!((heartbeat.period_ms, heartbeat.timeout_ms), (10, 30));
    assert_eq!(heartbeat.request_ms, 0);
    assert!(server.rights.system.is_empty() && server.rights.grants.is_empty());
}

#[test]
fn errors_name_file_field_and_remedy() {
    let error = client_refusal("calls = [\"sever\"]");
    assert!(
        error.starts_with("services/client.toml: calls: "),
        "{error}"
    );
    assert!(
        error.contains("add init/services/sever.toml or remove the name"),
        "{error}"
    );

    let error = client_refusal("calls = [\"server\", \"server\"]");
    assert!(error.contains("`server` stands there twice"), "{error}");
    let error = client_refusal("heap = \"1 TiB\"");
    assert!(
        error.contains("client.toml") && error.contains("\"1 MiB\""),
        "{error}"
    );
    let error = client_refusal("heap = 0");
    assert!(error.contains("heap: 0 bytes; must be from 1"), "{error}");
    let error = client_refusal("colour = \"red\"");
    assert!(error.contains("unknown field `colour`"), "{error}");
    let error = client_refusal("ports = [{ name = \"server\", first = 65535, count = 2 }]");
    assert!(error.contains("past 65535"), "{error}");
    let error = client_refusal("interrupts = [{ name = \"dma\", line = 4 }]");
    assert!(
        error.contains("name of a handle that every service may get"),
        "{error}"
    );
    let error = client_refusal("[restart]\nmin-delay-ms = 9\nmax-delay-ms = 8");
    assert!(error.contains("restart: max-delay-ms is less"), "{error}");
    let error = client_refusal("[heartbeat]\ntimeout-ms = 0");
    assert!(error.contains("heartbeat: a period needs"), "{error}");
}

#[test]
fn calls_upwards_sideways_and_in_circles_are_refused() {
    let at = |level: u8, calls: &str| {
        let client = format!(
            "name = \"client\"\ndescription = \"Calls.\"\nlevel = {level}\ncalls = [\"{calls}\"]\n"
        );
        refusal(&[("server.toml", SERVER), ("client.toml", &client)])
    };
    assert!(at(1, "server").contains("may only call lower ones"));
    assert!(at(0, "server").contains("`server` has level 1"));
    assert!(at(5, "client").contains("`client` has level 5"));
    assert!(at(8, "server").contains("over the highest level 7"));
}

#[test]
fn names_are_checked() {
    let error = refusal(&[("a.toml", SERVER)]);
    assert!(error.contains("rename the file to server.toml"), "{error}");
    let error = refusal(&[("one/server.toml", SERVER), ("two/server.toml", SERVER)]);
    assert!(error.contains("used by two manifests"), "{error}");
    let bad = SERVER.replace("\"server\"", "\"Server!\"");
    assert!(refusal(&[("Server!.toml", &bad)]).contains("lower-case letters"));
    let reserved = SERVER.replace("\"server\"", "\"ram0\"");
    assert!(refusal(&[("ram0.toml", &reserved)]).contains("every service may get"));
}

#[test]
fn only_one_service_gets_the_ram() {
    let one = format!("{SERVER}grants = [\"ram\"]");
    let two = one.replace("\"server\"", "\"other\"");
    let error = refusal(&[("server.toml", &one), ("other.toml", &two)]);
    assert!(error.contains("`ram` already goes to server"), "{error}");
}

#[test]
fn other_versions_are_refused() {
    let mut bytes = compile(&[("server.toml", SERVER)]).unwrap();
    bytes[0] += 1;
    assert_eq!(decode(&bytes), Err(DecodeError::BadVersion(3)));
    assert_eq!(decode(&[]), Err(DecodeError::Damaged));
}

proptest! {
    #[test]
    fn any_bytes_decode_to_valid_services_or_an_error(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let caller = "name = \"client\"\ndescription = \"\"\nlevel = 4\ncalls = [\"server\"]\n";
        let mut bytes = compile(&[("server.toml", SERVER), ("client.toml", caller)]).unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(services) = decode(&bytes) {
            prop_assert!(check(&services).is_empty());
            for service in &services {
                for callee in &service.calls {
                    let callee = services.iter().find(|other| other.name == *callee).unwrap();
                    prop_assert!(callee.level < service.level);
                }
            }
        }
    }
}
