//! The runs of the program: started, judged, compared.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use chaos::{Request, output};
use skink_program::files::Files;
use skink_program::launch::{Command, INTERRUPTED, Launcher, Redirect, inherited_output};
use skink_program::{Failed, Program};

/// The runs so far.
pub(crate) struct Runs<'a> {
    request: &'a Request,
    cwd: String,
    /// Where the output goes when it is looked at.
    capture: Option<Capture>,
    count: u32,
    failed: u32,
}

struct Capture {
    files: Files,
    redirect: Redirect,
    /// Output of the first run.
    first: Option<Vec<u8>>,
}

impl<'a> Runs<'a> {
    /// Prepares the runs that were asked for.
    ///
    /// # Errors
    ///
    /// When output is to be looked at and there are no files.
    pub(crate) fn new(request: &'a Request, program: &Program) -> Result<Self, Failed> {
        let capture = if request.looks_at_output() {
            // The time keeps campaigns apart that run side by side.
            let path = format!("/tmp/chaos-{}", libsys::time::now());
            Some(Capture {
                files: Files::new(program)?,
                redirect: Redirect {
                    path,
                    is_append: false,
                },
                first: None,
            })
        } else {
            None
        };
        Ok(Runs {
            request,
            cwd: program.cwd().to_string(),
            capture,
            count: 0,
            failed: 0,
        })
    }

    /// Runs the program to its end, calls `tick` meanwhile, and returns the exit code. What went
    /// wrong is complained about and counted.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or its output cannot be read.
    pub(crate) fn run(
        &mut self,
        program: &mut Program,
        launcher: &Launcher,
        tick: impl FnMut() -> u64,
    ) -> Result<i32, Failed> {
        let [name, arguments @ ..] = self.request.command.as_slice() else {
            return Err(Failed::usage("while which program runs?"));
        };
        let inherited = inherited_output(program);
        let output = self.capture.as_ref().map(|capture| &capture.redirect);
        let command = Command {
            name,
            arguments,
            cwd: &self.cwd,
            output: output.or(inherited.as_ref()),
        };
        let finished = launcher
            .run_with(&command, tick)
            .map_err(|error| error.about(name))?;
        self.count += 1;
        let mut faults: Vec<String> = finished.message.into_iter().collect();
        if finished.code == INTERRUPTED {
            return Ok(INTERRUPTED);
        }
        if finished.code != 0 {
            faults.push(format!("exit code {}", finished.code));
        }
        faults.extend(self.look_at_output()?);
        self.failed += u32::from(!faults.is_empty());
        for fault in faults {
            program.complain(format!("run {}: {fault}", self.count));
        }
        Ok(finished.code)
    }

    /// Returns how many runs there were.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Returns how many of them failed.
    pub(crate) fn failed(&self) -> u32 {
        self.failed
    }

    /// Returns what the first run printed, if it was not seen yet.
    pub(crate) fn output(&self) -> Option<&[u8]> {
        self.capture.as_ref()?.first.as_deref()
    }

    /// Reads what the run printed and returns what is wrong with it.
    fn look_at_output(&mut self) -> Result<Option<String>, Failed> {
        let Some(capture) = &mut self.capture else {
            return Ok(None);
        };
        let path = capture.redirect.path.as_bytes();
        let mut output = Vec::new();
        capture.files.read(path, |bytes| {
            output.extend_from_slice(bytes);
            Ok(())
        })?;
        capture.files.vfs().unlink(path)?;
        let first = capture
            .first
            .as_deref()
            .filter(|_| self.request.is_compared);
        let fault = output::fault(&output, first, self.request.expected.as_deref());
        capture.first.get_or_insert(output);
        Ok(fault)
    }
}
