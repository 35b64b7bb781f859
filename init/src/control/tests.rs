//! Calls through the wire format to a fake of the rest of `init`.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use libipc::Failure;
use libipc::loopback::Loopback;
use libipc::proto::init::{
    Cause, InitClient, InitDispatcher, ServiceState, SwapOutcome, SwapPhase, SwapReason,
};
use libipc::stream::Batch;
use libsys::RawHandle;
use skink_manifest::{compile, decode};

use super::*;

/// Number of handles that the fake makes.
const COPY: u32 = 1_000;

struct Fake {
    manifests: Vec<Service>,
    killed: Cell<Option<usize>>,
    reported: Cell<Option<(usize, usize)>>,
    noted: RefCell<BTreeMap<(u64, u64), ledger::Kept>>,
}

impl Services for Fake {
    fn manifest(&self, service: usize) -> Option<&Service> {
        self.manifests.get(service)
    }

    fn info(&self, service: usize) -> Option<ServiceInfo> {
        let manifest = self.manifest(service)?;
        Some(ServiceInfo {
            name: manifest.name.clone(),
            level: manifest.level,
            state: ServiceState::Running,
            process: 7,
            generation: 2,
            restarts: 1,
            last_cause: Some(Cause::Fault {
                vector: 14,
                address: 0x40_0000,
                fault_address: 8,
            }),
            last_downtime_ns: 300,
            uptime_ns: 1 << 40,
            cpu_ns: 5,
            served_ns: 6,
            mapped_pages: 700,
        })
    }

    fn statistics(&self, service: usize) -> Option<ServiceStatistics> {
        self.manifest(service)?;
        Some(ServiceStatistics {
            faulted: 1,
            downtime_p99_ns: 300,
            downtime_max_ns: 300,
            ..ServiceStatistics::default()
        })
    }

    fn kill(&self, service: usize, _: &Caller) -> Result<(), InitError> {
        self.killed.set(Some(service));
        Ok(())
    }

    fn report(&self, by: usize, about: usize, _: &str, _: &Caller) -> Result<(), InitError> {
        self.reported.set(Some((by, about)));
        Ok(())
    }

    fn restart(&self, _service: usize, _: &Caller) -> Result<(), InitError> {
        Err(InitError::Critical)
    }

    fn swap(&self, service: usize, source: Source, _: &Caller) -> Result<Ticket, InitError> {
        let ticket = Ticket::new();
        let outcome = match source {
            Source::Image(name) if name == "none" => return Err(InitError::NoSuchImage),
            Source::Image(_) => SwapOutcome::Committed,
            Source::Memory { bytes, .. } => SwapOutcome::RolledBack {
                phase: SwapPhase::Verify,
                reason: SwapReason::TooLarge {
                    needed: bytes,
                    reserved: service as u64,
                },
            },
            Source::Previous => return Err(InitError::NoPreviousVersion),
        };
        ticket.finish(Ok(SwapReport {
            outcome,
            pause_ns: Some(1_000),
            took_ns: 2_000,
            state_bytes: 4_096,
            is_exported: false,
            has_other_interface: true,
        }));
        Ok(ticket)
    }

    fn version(&self, service: usize) -> Option<ServiceVersion> {
        Some(ServiceVersion {
            name: self.manifest(service)?.name.clone(),
            image: "image".into(),
            digest: 0x1234,
            previous: Some(("before".into(), 7)),
        })
    }

    fn note(&self, client: u64, key: u64, kept: Option<ledger::Kept>) -> Result<(), InitError> {
        let mut noted = self.noted.borrow_mut();
        match kept {
            Some(kept) => noted.insert((client, key), kept),
            None => noted.remove(&(client, key)),
        };
        Ok(())
    }

    fn noted(&self, client: u64, key: u64) -> Option<ledger::Kept> {
        self.noted.borrow().get(&(client, key)).copied()
    }

    fn noted_keys(&self, client: u64) -> Vec<u64> {
        let noted = self.noted.borrow();
        let own = noted.keys().filter(|(owner, _)| *owner == client);
        own.map(|(_, key)| *key).collect()
    }

    fn shutdown(&self, _code: u32) -> InitError {
        InitError::Kernel
    }

    fn log_ring(&self, service: usize) -> Result<Handle<Memory>, InitError> {
        Ok(Handle::from_raw(RawHandle(service as u32 + 1)))
    }

    fn copy<K: Kind>(&self, handle: &Handle<K>) -> Result<Handle<K>, InitError> {
        Ok(Handle::from_raw(RawHandle(handle.raw().0 + COPY)))
    }
}

/// Six services: `s0` to `s3` without grants, `s4` reads logs, `s5` has control.
fn init() -> (Rc<Fake>, Rc<Loopback>, InitClient) {
    let files: Vec<(String, String)> = (0..6)
        .map(|at| {
            let grants = ["", "", "", "", "\"log-reader\"", "\"control\""][at];
            let text =
                format!("name = \"s{at}\"\ndescription = \"\"\nlevel = 1\ngrants = [{grants}]");
            (format!("s{at}.toml"), text)
        })
        .collect();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let manifests = decode(&compile(&files).unwrap()).unwrap();
    let fake = Rc::new(Fake {
        manifests,
        killed: Cell::default(),
        reported: Cell::default(),
        noted: RefCell::default(),
    });
    let control = Control::new(Rc::clone(&fake), Vault::default());
    let loopback = Loopback::new(InitDispatcher::new(Rc::new(control)));
    let client = InitClient::from_client(loopback.client());
    (fake, loopback, client)
}

fn memory(number: u32) -> Handle<Memory> {
    Handle::from_raw(RawHandle(number))
}

const READER: u64 = badge_of_service(4);
const CONTROLLER: u64 = badge_of_service(5);

#[test]
fn only_those_with_the_grant_control_services() {
    let (fake, loopback, client) = init();
    for badge in [
        0,
        badge_of_service(0),
        READER,
        badge_of_service(6),
        u64::MAX,
    ] {
        loopback.set_badge(badge);
        assert_eq!(
            client.kill("s1"),
            Err(Failure::Server(InitError::NotAllowed))
        );
        assert_eq!(
            client.restart("s1"),
            Err(Failure::Server(InitError::NotAllowed))
        );
        assert_eq!(
            client.shutdown(0),
            Err(Failure::Server(InitError::NotAllowed))
        );
        let refused = Err(Failure::Server(InitError::NotAllowed));
        assert_eq!(client.swap("s1", "image"), refused);
        assert_eq!(client.swap_memory("s1", &memory(1), 1, [0; 32]), refused);
        assert_eq!(client.rollback("s1"), refused);
    }
    assert_eq!(fake.killed.get(), None);
    loopback.set_badge(CONTROLLER);
    assert_eq!(client.kill("s1"), Ok(()));
    assert_eq!(fake.killed.get(), Some(1));
    assert_eq!(client.kill("init"), Ok(()));
    assert_eq!(fake.killed.get(), Some(6));
    assert_eq!(
        client.kill("s9"),
        Err(Failure::Server(InitError::NoSuchService))
    );
}

#[test]
fn everyone_may_look() {
    let (_, _, client) = init();
    let names = |first| {
        let batch = client.services_batch(first).unwrap();
        assert_eq!(batch.next, None);
        batch
            .items
            .into_iter()
            .map(|info| info.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(0), ["s0", "s1", "s2", "s3", "s4", "s5"]);
    assert_eq!(names(5), ["s5"]);
    assert!(names(6).is_empty() && names(u32::MAX).is_empty());
    assert_eq!(client.statistics("s0").unwrap().faulted, 1);
}

#[test]
fn those_who_ask_for_a_swap_are_told_what_came_of_it() {
    let (_, loopback, client) = init();
    loopback.set_badge(CONTROLLER);
    let report = client.swap("s1", "image").unwrap();
    assert_eq!(report.outcome, SwapOutcome::Committed);
    let refused = |error| Err(Failure::Server(error));
    assert_eq!(client.swap("s1", "none"), refused(InitError::NoSuchImage));
    assert_eq!(
        client.swap("s9", "image"),
        refused(InitError::NoSuchService)
    );
    assert_eq!(client.rollback("s1"), refused(InitError::NoPreviousVersion));
    let report = client.swap_memory("s3", &memory(5), 9, [1; 32]).unwrap();
    let reason = SwapReason::TooLarge {
        needed: 9,
        reserved: 3,
    };
    assert_eq!(
        report.outcome,
        SwapOutcome::RolledBack {
            phase: SwapPhase::Verify,
            reason
        }
    );
    let batch = client.versions_batch(4).unwrap();
    assert_eq!((batch.items.len(), batch.next), (2, None));
    assert_eq!(batch.items[1].name, "s5");
}

#[test]
fn callers_have_vaults_of_their_own() {
    let (fake, loopback, client) = init();
    let missing = Err(Failure::Server(InitError::NoSuchKey));
    let get = |key| client.vault_get_memory(key).map(|memory| memory.raw().0);
    client.vault_put_memory(9, &memory(5)).unwrap();
    client
        .vault_put_notification(8, &Handle::from_raw(RawHandle(6)))
        .unwrap();
    assert_eq!(get(9), Ok(5 + COPY));
    assert_eq!(client.vault_get_notification(8).unwrap().raw().0, 6 + COPY);
    assert_eq!(get(8), missing);
    assert_eq!(client.vault_list().unwrap(), [8, 9]);
    loopback.set_badge(2);
    assert_eq!(get(9), missing);
    assert!(client.vault_list().unwrap().is_empty());
    client.vault_remove(9).unwrap();
    loopback.set_badge(1);
    let noted: Vec<_> = fake.noted.borrow().clone().into_iter().collect();
    let (five, six) = (ledger::Kept::Memory(5), ledger::Kept::Notification(6));
    let badge = noted[0].0.0;
    assert_eq!(noted, [((badge, 8), six), ((badge, 9), five)]);
    client.vault_remove(9).unwrap();
    client.vault_remove(9).unwrap();
    assert_eq!(get(9), missing);
    assert_eq!(fake.noted.borrow().len(), 1);
}

#[test]
fn a_vault_that_is_not_what_is_noted_ends_init() {
    fn ends(what: &str, act: impl FnOnce(&InitClient)) {
        let (fake, _loopback, client) = init();
        client.vault_put_memory(9, &memory(5)).unwrap();
        let ((badge, _), kept) = fake.noted.borrow().clone().pop_first().unwrap();
        fake.noted.borrow_mut().clear();
        fake.noted.borrow_mut().insert((badge, 8), kept);
        let result = catch_unwind(AssertUnwindSafe(|| act(&client)));
        assert!(result.is_err(), "{what} was not noticed");
    }
    ends("a key that is lost", |client| {
        let _ = client.vault_get_memory(8);
    });
    ends("a key too many", |client| {
        let _ = client.vault_get_memory(9);
    });
    ends("another list", |client| {
        let _ = client.vault_list();
    });
    // Of another kind there is none.
    let (_, _, client) = init();
    client.vault_put_memory(9, &memory(5)).unwrap();
    let missing = Err(Failure::Server(InitError::NoSuchKey));
    assert_eq!(client.vault_get_notification(9).map(drop), missing);
}

#[test]
fn log_rings_come_in_pages_to_log_readers() {
    let (_, loopback, client) = init();
    assert!(client.log_rings(0).is_err());
    loopback.set_badge(READER);
    let (names, first, _, _, fourth) = client.log_rings(0).unwrap();
    assert_eq!(names, ["s0", "s1", "s2", "s3"]);
    assert_eq!((first.unwrap().raw().0, fourth.unwrap().raw().0), (1, 4));
    let (names, first, second, third, _) = client.log_rings(4).unwrap();
    assert_eq!(names, ["s4", "s5"]);
    assert!(first.is_some() && second.is_some() && third.is_none());
    let (names, first, ..) = client.log_rings(u32::MAX).unwrap();
    assert!(names.is_empty() && first.is_none());
}

#[test]
fn services_with_the_longest_names_fit_into_messages() {
    let cause = Cause::Fault {
        vector: 255,
        address: u64::MAX,
        fault_address: u64::MAX,
    };
    let longest = ServiceInfo {
        name: "x".repeat(libsys::abi::NAME_BYTES),
        level: 255,
        state: ServiceState::Stopped,
        process: u64::MAX,
        generation: u64::MAX,
        restarts: u32::MAX,
        last_cause: Some(cause),
        last_downtime_ns: u64::MAX,
        uptime_ns: u64::MAX,
        cpu_ns: u64::MAX,
        served_ns: u64::MAX,
        mapped_pages: u64::MAX,
    };
    let mut page = [0; libsys::abi::MAX_MESSAGE_BYTES];
    let batch = Batch::of(std::iter::repeat(longest).zip(0_u32..));
    assert!(batch.items.len() >= 16 && batch.next == Some(batch.items.len() as u32));
    let answer: Result<_, InitError> = Ok(batch);
    assert!(libipc::wire::encode(&answer, &mut page).is_ok());
}

#[test]
fn messages_look_on_the_wire_as_before() {
    let (_, loopback, client) = init();
    loopback.set_badge(READER);
    client.services_batch(4).unwrap();
    client.statistics("s0").unwrap();
    client.log_rings(3).unwrap();
    client.vault_put_memory(1 << 40, &memory(5)).unwrap();
    client
        .vault_put_notification(2, &Handle::from_raw(RawHandle(6)))
        .unwrap();
    client.vault_get_memory(1 << 40).unwrap();
    client.vault_get_notification(2).unwrap();
    client.vault_list().unwrap();
    client.vault_remove(2).unwrap();
    client.report("s1", "read").unwrap();
    loopback.set_badge(CONTROLLER);
    client.kill("s1").unwrap();
    assert!(client.restart("s1").is_err());
    assert!(client.shutdown(3).is_err());
    libipc::golden!(
        "init.txt",
        loopback,
        [
            "services",
            "statistics",
            "log_rings",
            "vault_put_memory",
            "vault_put_notification",
            "vault_get_memory",
            "vault_get_notification",
            "vault_list",
            "vault_remove",
            "report",
            "kill",
            "restart",
            "shutdown",
        ]
    );
}

#[test]
fn reports_are_passed_on_with_who_made_them() {
    let (fake, loopback, client) = init();
    loopback.set_badge(READER);
    client.report("s1", "read").unwrap();
    assert_eq!(fake.reported.take(), Some((4, 1)));
    assert_eq!(
        client.report("s9", "read"),
        Err(Failure::Server(InitError::NoSuchService))
    );
}
