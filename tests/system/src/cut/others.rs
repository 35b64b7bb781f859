//! Operations of the servers that are in no file's way.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use libipc::Failure;
use libipc::proto::console::ConsoleClient;
use libipc::proto::log::KERNEL;

use super::operation::{Fault, Operation};
use super::victim::{service, wait_for_all};
use crate::context::{Context, because, expect_exit};

/// The service that `init` ends on request, and whose lines are read.
const LOG: &str = "log";

/// Returns writing to the terminal: numbered lines. Who reads them looks whether one is missing or
/// comes twice.
pub(super) fn console<'a>(console: ConsoleClient) -> Vec<Operation<'a>> {
    let mut number = 0;
    let write = move || {
        let line = format!("console line {number}\n");
        number += 1;
        let written = console.write(line.as_bytes());
        written.map_err(because("write"))?;
        Ok(())
    };
    vec![Operation::new("write", || Ok(()), write)]
}

/// Returns reading the kernel's log: its lines stay what they are.
pub(super) fn log(context: &Context) -> Vec<Operation<'_>> {
    let mut known = None;
    let read = move || {
        let page = context.log().read(KERNEL, 0).map_err(because("read"))?;
        let known = known.get_or_insert_with(|| page.clone());
        let is_longer = page.lines.len() >= known.lines.len();
        if page.lost == known.lost && is_longer && page.lines.starts_with(&known.lines) {
            *known = page;
            return Ok(());
        }
        let (lines, lost) = (page.lines.len(), page.lost);
        Err(Fault::Lost(format!(
            "{lines} lines, {lost} lost, or others than before"
        )))
    };
    vec![Operation::new("read", || Ok(()), read)]
}

/// Returns what `init` is asked for: the list of services, and ends of one of them.
pub(super) fn init(context: &Context) -> Vec<Operation<'_>> {
    let names = || -> Result<Vec<String>, String> {
        let services = context.init().services();
        let names = services.map(|service| service.map(|service| service.name));
        names.collect::<Result<_, _>>().map_err(because("services"))
    };
    let mut known = None;
    let list = move || {
        let found = names()?;
        if *known.get_or_insert_with(|| found.clone()) == found {
            return Ok(());
        }
        Err(Fault::Wrong(format!("the services are {found:?}")))
    };
    let kill = move || {
        let before = service(context, LOG)?.restarts;
        context.init().kill(LOG).map_err(because("kill"))?;
        wait_for_all(context)?;
        let more = service(context, LOG)?.restarts - before;
        match more {
            1 => Ok(()),
            0 => Err(Fault::Lost(format!("{LOG} was not ended"))),
            _ => Err(Fault::Duplicated(format!("{LOG} was ended {more} times"))),
        }
    };
    vec![
        Operation::new("list", || wait_for_all(context), list),
        Operation::new("kill", || wait_for_all(context), kill),
    ]
}

/// Returns what the memory manager does: an object, and a program from its start to its end.
pub(super) fn memory(context: &Context) -> Vec<Operation<'_>> {
    let object = move || {
        let object = match context.memory().create_object(4) {
            // It does not know whether it did it; another one does no harm.
            Err(Failure::Restarted) => context.memory().create_object(4),
            other => other,
        };
        let object = object.map_err(because("object"))?;
        let mut bytes = [1; 64];
        object.read(3 * 4096, &mut bytes).map_err(because("read"))?;
        if bytes == [0; 64] {
            return Ok(());
        }
        Err(Fault::Wrong("a new object is not empty".into()))
    };
    let program = move || {
        let end = context.run("touch", &[8, 0])?;
        expect_exit(&end, 0)?;
        Ok(())
    };
    vec![
        Operation::new("object", || Ok(()), object),
        Operation::new("program", || Ok(()), program),
    ]
}
