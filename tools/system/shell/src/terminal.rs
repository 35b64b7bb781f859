//! The terminal of the shell: keys in, the editor's output out.

use alloc::string::String;

use libipc::proto::console::{ConsoleClient, InputMode, MAX_WRITE};
use shell::editor::{Editor, Event};
use skink_program::Failed;

use crate::session::Session;

/// What came of reading a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// A line.
    Line(String),
    /// The interrupt key.
    Interrupted,
    /// The end of input.
    EndOfInput,
}

/// The terminal with an editor.
#[derive(Debug)]
pub(crate) struct Terminal {
    console: ConsoleClient,
    editor: Editor,
}

impl Terminal {
    pub(crate) fn new(console: ConsoleClient) -> Self {
        Terminal {
            console,
            editor: Editor::default(),
        }
    }

    pub(crate) fn history(&self) -> &[String] {
        self.editor.history()
    }

    pub(crate) fn set_mode(&self, mode: InputMode) -> Result<(), Failed> {
        Ok(self.console.set_mode(mode)?)
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), Failed> {
        for part in bytes.chunks(MAX_WRITE) {
            self.console.write(part)?;
        }
        Ok(())
    }

    /// Reads a line behind a prompt.
    pub(crate) fn read_line(&mut self, prompt: &str, session: &Session) -> Result<Answer, Failed> {
        self.set_mode(InputMode::Raw)?;
        self.editor.start(prompt);
        loop {
            let output = self.editor.take_output();
            self.write(&output)?;
            // One at a time: what was typed ahead may be for a program that this line starts.
            for byte in self.console.read(1)? {
                let answer = match self.editor.push(byte) {
                    Event::Nothing => continue,
                    Event::Complete(before_cursor) => {
                        let (insertion, choices) = session.complete(&before_cursor);
                        self.editor.complete(&insertion, &choices);
                        continue;
                    }
                    Event::Line(line) => Answer::Line(line),
                    Event::Interrupted => Answer::Interrupted,
                    Event::EndOfInput => Answer::EndOfInput,
                };
                let output = self.editor.take_output();
                self.write(&output)?;
                return Ok(answer);
            }
        }
    }
}
