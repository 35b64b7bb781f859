//! Controls services.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

mod logs;
mod report;
mod swap;

use alloc::string::String;
use alloc::vec::Vec;

use libipc::proto::init::{InitClient, ServiceInfo};
use skink_program::{Failed, Flag, Outcome, Program};

use crate::logs::Until;

const HELP: &str = "\
Usage: svc [list]
       svc restart NAME...
       svc kill NAME...
       svc swap NAME IMAGE
       svc rollback NAME
       svc info NAME...
       svc stats [NAME]...
       svc logs [-f] NAME...

Controls the services of the system.

  list      lists them: level, state, process, version, restarts, last downtime
  restart   ends a service and starts it anew at once
  kill      ends a service as a crash would; its restart policy decides what follows
  swap      replaces the program of a running service, which keeps its state and the
            requests that wait: by an image of the boot bundle, or by a file (a name
            with a slash); on any failure the old version serves on
  rollback  goes back to the version before the last swap, in the same way
  info      shows which version runs, and which one ran before
  stats     shows how a service has fared since boot: why its instances ended, how
            long it was away
  logs      shows the log of services, or of the kernel; -f (--follow) goes on until ^C
";

const FLAGS: &[Flag] = &[Flag {
    letter: 'f',
    name: "follow",
}];

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    let options = program.options(FLAGS)?;
    let (command, names) = match options.operands.as_slice() {
        [] => ("list", &[][..]),
        [command, names @ ..] => (command.as_str(), names),
    };
    if options.has('f') && command != "logs" {
        return Err(Failed::usage("-f is for logs"));
    }
    let needs_name = matches!(command, "restart" | "kill" | "logs" | "info");
    if needs_name && names.is_empty() {
        return Err(Failed::usage("which service?"));
    }
    match command {
        "list" if names.is_empty() => {
            let init = program.init()?;
            let table = report::list(&services(&init)?, &swap::versions(&init)?);
            program.out().write_bytes(table.as_bytes())?;
        }
        "list" => return Err(Failed::usage("list takes no names")),
        "restart" | "kill" => {
            let init = program.init()?;
            for name in names {
                let done = if command == "kill" {
                    init.kill(name)
                } else {
                    init.restart(name)
                };
                if let Err(failure) = done {
                    program.complain(Failed::from(failure).about(name).message);
                }
            }
        }
        "swap" => match names {
            [name, image] => swap::swap(program, name, image)?,
            _ => return Err(Failed::usage("swap takes a service and an image")),
        },
        "rollback" => match names {
            [name] => swap::rollback(program, name)?,
            _ => return Err(Failed::usage("rollback takes one service")),
        },
        "info" => swap::info(program, names)?,
        "stats" => stats(program, names)?,
        "logs" => {
            let until = if options.has('f') {
                Until::Interrupted
            } else {
                Until::End
            };
            logs::show(program, names, until)?;
        }
        _ => return Err(Failed::usage(alloc::format!("unknown command {command}"))),
    }
    program.finish()
}

fn services(init: &InitClient) -> Result<Vec<ServiceInfo>, Failed> {
    Ok(init.services().collect::<Result<_, _>>()?)
}

fn stats(program: &mut Program, names: &[String]) -> Result<(), Failed> {
    let init = program.init()?;
    let all = services(&init)?;
    let mut shown = Vec::new();
    if names.is_empty() {
        shown.extend(all.iter().map(|service| service.name.clone()));
    }
    for name in names {
        if all.iter().any(|service| service.name == *name) {
            shown.push(name.clone());
        } else {
            program.complain(alloc::format!("{name}: no such service"));
        }
    }
    let mut rows = Vec::new();
    for name in shown {
        let statistics = init.statistics(&name)?;
        rows.push((name, statistics));
    }
    if !rows.is_empty() {
        program
            .out()
            .write_bytes(report::statistics(&rows).as_bytes())?;
    }
    let totals = program.system()?.system_info()?.1;
    let text = alloc::format!(
        "\nRequests delivered again after a crash: {}; given up: {}.\n",
        totals.redelivered,
        totals.poisoned
    );
    program.out().write_bytes(text.as_bytes())
}
