//! Checks Promela models with Spin: a search through every order of steps that the processes of a
//! model can take (G. J. Holzmann, The SPIN Model Checker, 2003).
//!
//! Spin turns a model into a C program, the verifier; that one is compiled and run here, each time
//! in a folder of its own. The models lie beside this crate's manifest; the tests are in
//! `tests/restart.rs`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, bail, ensure};

/// Longest run of steps that is followed. A longer one is an error: the search would be cut short.
const MAX_DEPTH: &str = "1000000";

/// What a verifier looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// Violated assertions, and states in which nobody can go on though somebody has not finished.
    Safety,
    /// Besides, ways of going on for ever: a model whose processes do bounded work has none.
    Progress,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The first error, in Spin's words; `None` when there is none in any reachable state.
    pub error: Option<String>,
    /// Number of different states that were reached.
    pub states: u64,
    /// Lines of the model that no run reaches, as Spin shows them. Complete only without an error.
    pub unreached: Vec<String>,
}

/// Searches a model with some macros defined (`"SWAPS=2"`, `"BROKEN_NO_REST"`).
///
/// # Errors
///
/// When Spin or the C compiler is missing or refuses the model, or the search could not be
/// completed.
pub fn search(model: &str, defines: &[&str], search: Search) -> anyhow::Result<Finding> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(model);
    let folder = folder_for(model, defines, search)?;
    let mut spin = Command::new("spin");
    spin.args(defines.iter().map(|define| format!("-D{define}")))
        .arg("-a")
        .arg(&source);
    let install = "cannot start spin: `cargo xtask check` installs it (Debian's package spin)";
    run(spin.current_dir(&folder)).context(install)?;

    let mut compiler = Command::new("gcc");
    // Generated code: its warnings are nobody's business. States are kept compressed.
    compiler.args(["-w", "-O2", "-DCOLLAPSE", "-o", "pan", "pan.c"]);
    compiler.arg(match search {
        Search::Safety => "-DSAFETY",
        Search::Progress => "-DNP",
    });
    run(compiler.current_dir(&folder)).context("cannot compile the verifier")?;

    let mut verifier = Command::new("./pan");
    verifier.arg(format!("-m{MAX_DEPTH}"));
    if search == Search::Progress {
        verifier.arg("-l");
    }
    let output = run(verifier.current_dir(&folder)).context("cannot run the verifier")?;
    let finding = read(&String::from_utf8_lossy(&output.stdout))?;
    if finding.error.is_none() {
        // With an error, the trail beside the verifier shows the way to it: `spin -t -p MODEL`.
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(finding)
}

/// Makes an empty folder in the system's temporary one.
fn folder_for(model: &str, defines: &[&str], search: Search) -> anyhow::Result<PathBuf> {
    let id = std::process::id();
    let name = format!("skink-{model}-{}-{search:?}-{id}", defines.join("-"));
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

fn run(command: &mut Command) -> anyhow::Result<Output> {
    let output = command.stdin(Stdio::null()).output()?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}

/// Reads what a verifier prints.
fn read(text: &str) -> anyhow::Result<Finding> {
    let error = text
        .lines()
        .find_map(|line| line.strip_prefix("pan:1: "))
        .map(str::to_owned);
    let states = text
        .lines()
        .find_map(|line| {
            line.trim()
                .strip_suffix(" states, stored")
                .or_else(|| Some(line.trim().split_once(" states, stored (")?.0))
        })
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("the verifier tells no number of states:\n{text}"))?;
    if error.is_none() && text.contains("Search not completed") || text.contains("max search depth")
    {
        bail!("the search was not completed:\n{text}");
    }
    let unreached = text
        .lines()
        .map(str::trim)
        .filter(|line| line.contains(", state ") && !line.contains("\"-end-\""))
        .map(str::to_owned)
        .collect();
    Ok(Finding {
        error,
        states,
        unreached,
    })
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn what_the_verifier_says_is_read() {
        let good = "\
State-vector 92 byte, depth reached 103, errors: 0
  3200978 states, stored
unreached in proctype Client
\t(0 of 15 states)
unreached in proctype Server
\trestart.pml:14, state 3, \"x = 1\"
\trestart.pml:15, state 4, \"-end-\"
";
        let finding = read(good).unwrap();
        assert_eq!((finding.error, finding.states), (None, 3_200_978));
        assert_eq!(finding.unreached, ["restart.pml:14, state 3, \"x = 1\""]);
        let bad = "\
pan:1: invalid end state (at depth 63)
Warning: Search not completed
      88 states, stored (120 visited)
";
        let finding = read(bad).unwrap();
        assert_eq!(finding.error.unwrap(), "invalid end state (at depth 63)");
        assert_eq!(finding.states, 88);
    }

    #[test]
    fn an_incomplete_search_proves_nothing() {
        let cut =
            "error: max search depth too small\nWarning: Search not completed\n 7 states, stored\n";
        assert!(read(cut).is_err());
        assert!(read("").is_err());
    }
}
