//! From power-on to a prompt, by every way there is.

use crate::{Boot, PROMPT, Scenario, Session};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("boots to a prompt")
            .smp(&[1, 4])
            .interact(echo_at_prompt),
        Scenario::new("boots with little memory")
            .memory("64M")
            .interact(echo_at_prompt),
        Scenario::new("boots with memory above 4 GiB")
            .memory("5G")
            .interact(echo_at_prompt),
        Scenario::new("boots from a CD by BIOS")
            .boot(Boot::IsoBios)
            .interact(echo_at_prompt),
        Scenario::new("boots from a CD by UEFI")
            .boot(Boot::IsoUefi)
            .time_limit(120)
            .interact(echo_at_prompt),
        Scenario::new("runs commands and powers off with their exit code")
            .smp(&[1, 4])
            .exec("echo first; echo second")
            .expect(|run| {
                run.expect_code(0)?;
                anyhow::ensure!(
                    run.output == "first\nsecond\n",
                    "the output is {:?}, not just what the commands print",
                    run.output
                );
                Ok(())
            }),
        Scenario::new("shows the wall time of the host")
            .exec("date -s; date")
            .expect(|run| {
                run.expect_code(0)?;
                let shown: u64 = run.output.lines().next().unwrap_or_default().parse()?;
                let now = std::time::SystemTime::now();
                let now = now.duration_since(std::time::UNIX_EPOCH)?.as_secs();
                anyhow::ensure!(
                    (now.saturating_sub(120)..=now + 1).contains(&shown),
                    "the system shows {shown} s, the host {now} s"
                );
                run.expect_text(" UTC\n")
            }),
        Scenario::new("a command that fails gives a failing exit code")
            .exec("cat /no/such/file")
            .expect(|run| run.expect_code(1)),
        Scenario::new("a program that is missing has an exit code of its own")
            .exec("no-such-program || exit 7; echo not reached")
            .expect(|run| {
                run.expect_code(7)?;
                run.expect_text("no-such-program: no such program")?;
                anyhow::ensure!(!run.output.contains("not reached"), "exit did not exit");
                Ok(())
            }),
    ]
}

fn echo_at_prompt(session: &mut Session) -> anyhow::Result<()> {
    session.wait_for(PROMPT)?;
    let output = session.command("echo it lives")?;
    anyhow::ensure!(output.trim() == "it lives", "echo printed {output:?}");
    Ok(())
}
