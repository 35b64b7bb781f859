//! Operations of the servers that are in no file's way.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use libipc::proto::console::ConsoleClient;
use libipc::proto::log::{KERNEL, LogPage};
use libsys::time;

use super::operation::{Fault, Operation};
use super::victim::{service, wait_for_all};
use crate::context::{Context, SOON, because, expect_exit};

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

/// Returns reading the kernel's log: its lines stay what they are, until the oldest give way.
pub(super) fn log(context: &Context) -> Vec<Operation<'_>> {
    let mut known: Option<LogPage> = None;
    let read = move || {
        let page = context.log().read(KERNEL, 0).map_err(because("read"))?;
        let result = known.as_ref().map_or(Ok(()), |known| compare(known, &page));
        known = Some(page);
        result
    };
    vec![Operation::new("read", || Ok(()), read)]
}

/// Compares the oldest lines of a log with what they were before.
fn compare(before: &LogPage, now: &LogPage) -> Result<(), Fault> {
    let gone = now.lost.checked_sub(before.lost);
    let gone = gone.ok_or_else(|| Fault::Lost("the count of lost lines".into()))?;
    let mut both = before.lines.iter().skip(gone as usize).zip(&now.lines);
    if let Some((old, new)) = both.find(|(old, new)| old != new) {
        return Err(Fault::Wrong(format!("{:?} was {:?}", new.text, old.text)));
    }
    if now.lines.is_empty() || (gone == 0 && now.lines.len() < before.lines.len()) {
        return Err(Fault::Lost(format!("only {} lines", now.lines.len())));
    }
    match now.lines.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Fault::Duplicated(format!("{:?}", pair[0].text))),
        None => Ok(()),
    }
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
    let mut expected = None;
    let kill = move || {
        let restarts = || service(context, LOG).map(|service| service.restarts);
        let before = *expected.get_or_insert(restarts()?);
        context.init().kill(LOG).map_err(because("kill"))?;
        let deadline = time::after(SOON);
        while restarts()? == before {
            if time::now() > deadline {
                return Err(Fault::Lost(format!("{LOG} was not ended")));
            }
            time::sleep(time::MS);
        }
        wait_for_all(context)?;
        // One that comes late is seen the next time.
        expected = Some(before + 1);
        match restarts()? - before {
            1 => Ok(()),
            more => Err(Fault::Duplicated(format!("{LOG} was ended {more} times"))),
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
        let object = context.memory().create_object(4);
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
