//! The terminal as a person uses it: typing, editing, interrupting.

use anyhow::ensure;

use crate::{Disk, Exit, PROMPT, Scenario, Session};

const UP: &str = "\x1b[A";
const LEFT: &str = "\x1b[D";
const BACKSPACE: &str = "\x7f";
const INTERRUPT: &str = "\x03";
const END_OF_INPUT: &str = "\x04";

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("lines are edited, completed and recalled")
            .disk(Disk::Sample)
            .interact(edit),
        Scenario::new("programs read what is typed")
            .smp(&[1, 4])
            .interact(type_at_program),
        Scenario::new("the interrupt key ends a program")
            .smp(&[1, 4])
            .interact(interrupt),
    ]
}

/// Types a line and fails unless its command prints this.
fn expect(session: &mut Session, typed: &str, printed: &str) -> anyhow::Result<()> {
    let output = session.command(typed)?;
    ensure!(
        output == printed,
        "after {typed:?} the system printed {output:?}, not {printed:?}"
    );
    Ok(())
}

fn edit(session: &mut Session) -> anyhow::Result<()> {
    session.wait_for(PROMPT)?;
    let wrong = format!("echo wrong{}right", BACKSPACE.repeat(5));
    expect(session, &wrong, "right\n")?;
    expect(session, &format!("echo ac{LEFT}b"), "abc\n")?;
    expect(session, UP, "abc\n")?;
    expect(session, &format!("{UP}{UP}"), "right\n")?;
    expect(session, "echo Gr\u{fc}\u{df}e", "Gr\u{fc}\u{df}e\n")?;
    expect(session, "cat /hel\t", "Hello from the disk.\n")
}

fn type_at_program(session: &mut Session) -> anyhow::Result<()> {
    session.wait_for(PROMPT)?;
    session.send("sha256sum\n")?;
    session.wait_for("sha256sum\r\n")?;
    session.send(&format!("abx{BACKSPACE}c\n"))?;
    // The program has the line once it is echoed.
    session.wait_for("\n")?;
    session.send(END_OF_INPUT)?;
    let output = session.wait_for(PROMPT)?;
    let sum = crate::disk::sha256(b"abc\n");
    ensure!(
        output == format!("{sum}  -\n"),
        "the checksum of abc is {output:?}, not {sum}"
    );
    Ok(())
}

fn interrupt(session: &mut Session) -> anyhow::Result<()> {
    session.wait_for(PROMPT)?;
    for _ in 0..5 {
        session.send("sha256sum\n")?;
        session.wait_for("sha256sum\r\n")?;
        // It is echoed once the program reads; a key before that would not be the program's.
        session.send("x")?;
        session.wait_for("x")?;
        session.send(INTERRUPT)?;
        session.wait_for(PROMPT)?;
        expect(session, "echo $?", "130\n")?;
    }
    session.send("shutdown\n")?;
    let exit = session.wait_for_end(|_| {})?;
    ensure!(exit == Exit::Orderly(0), "the machine ended with {exit:?}");
    Ok(())
}
