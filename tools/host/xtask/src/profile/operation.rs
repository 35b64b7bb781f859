//! One operation, instruction by instruction, and the ways to show it.

use std::collections::HashMap;
use std::fmt::Write;
use std::rc::Rc;

use super::image::Frame;
use super::trace::Ring;
use crate::bench::results::figures;

/// A compiled function without what is inlined into it.
const ITSELF: &str = "(itself)";

/// What an instruction does to the stack of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Call,
    Return,
    Other,
}

/// An instruction and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The kernel or a program.
    pub(crate) program: String,
    pub(crate) ring: Ring,
    pub(crate) pc: u64,
    /// Address of the instruction behind it.
    pub(crate) next: u64,
    /// The instruction, disassembled.
    pub(crate) text: String,
    pub(crate) flow: Flow,
    /// Its functions, the innermost first; there is at least one.
    pub(crate) frames: Vec<Frame>,
}

impl Line {
    /// Returns the function that was compiled.
    fn compiled(&self) -> &str {
        self.frames.last().map_or("?", |frame| &frame.function)
    }

    /// Returns the innermost function that is written in this workspace: what is inlined from the
    /// standard library counts for who uses it.
    fn own(&self) -> Option<&Frame> {
        let ours = self.frames.iter().find(|frame| frame.is_ours);
        ours.or(self.frames.last())
    }

    fn function(&self) -> &str {
        self.own().map_or("?", |frame| &frame.function)
    }

    /// Returns the part of the compiled function that it belongs to: the function of this workspace
    /// that was inlined right into it, with all that is inlined there.
    fn part(&self) -> &str {
        let mut inlined = self.frames.iter().rev().skip(1);
        let part = inlined.find(|frame| frame.is_ours);
        part.map_or(ITSELF, |frame| &frame.function)
    }
}

/// What is executed again and again.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// Instructions of a turn of the benchmark's loop.
    pub(crate) lines: Vec<Rc<Line>>,
    /// Operations in a turn.
    pub(crate) operations: f64,
}

/// Instructions of a function.
#[derive(Default)]
struct Share<'a> {
    all: u64,
    /// The same by the functions that were inlined right into it.
    parts: HashMap<&'a str, u64>,
}

impl Operation {
    /// Returns the instructions of one operation, with its part of the loop.
    pub(crate) fn instructions(&self) -> f64 {
        self.lines.len() as f64 / self.operations
    }

    /// Returns a table of instructions by function: those that were compiled, and below each the
    /// functions that were inlined right into it, with what is inlined there.
    pub(crate) fn table(&self) -> String {
        let mut shares: HashMap<(&str, &str), Share<'_>> = HashMap::new();
        let mut programs: HashMap<&str, u64> = HashMap::new();
        for line in &self.lines {
            let share = shares.entry((&line.program, line.compiled())).or_default();
            share.all += 1;
            *share.parts.entry(line.part()).or_default() += 1;
            *programs.entry(&line.program).or_default() += 1;
        }
        let mut text = format!("{:>12}  {:>7}  function\n", "instructions", "share");
        text += &self.row(self.lines.len() as u64, "all");
        for (program, count) in most_first(programs) {
            text += &self.row(count, program);
        }
        text.push('\n');
        let all = |(_, share): &(_, Share<'_>)| share.all;
        let mut shares: Vec<_> = shares.into_iter().collect();
        shares.sort_by_key(|share| (u64::MAX - all(share), share.0));
        for ((program, function), share) in shares {
            text += &self.row(share.all, &format!("{program}: {function}"));
            if share.parts.len() > 1 {
                for (part, count) in most_first(share.parts) {
                    text += &self.row(count, &format!("    {part}"));
                }
            }
        }
        text
    }

    fn row(&self, count: u64, what: &str) -> String {
        let percent = count as f64 * 100.0 / self.lines.len() as f64;
        let count = count as f64 / self.operations;
        let shown = if count.fract() == 0.0 {
            format!("{count:.0}")
        } else {
            figures(count)
        };
        format!("{shown:>12}  {percent:>5.1} %  {what}\n")
    }

    /// Returns the way through the functions that were compiled, in the order of execution.
    pub(crate) fn course(&self) -> String {
        let mut text = format!("{:>6}  {:>12}  function\n", "from", "instructions");
        let mut from = 1;
        let is_same =
            |a: &Rc<Line>, b: &Rc<Line>| a.program == b.program && a.compiled() == b.compiled();
        for part in self.lines.chunk_by(is_same) {
            let (program, function) = part
                .first()
                .map_or(("?", "?"), |line| (&line.program, line.compiled()));
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{from:>6}  {:>12}  {program}: {function}", part.len());
            from += part.len();
        }
        text
    }

    /// Returns every instruction with its place in the sources.
    pub(crate) fn listing(&self) -> String {
        let mut text = String::new();
        let mut before: Option<&Line> = None;
        for (at, line) in self.lines.iter().enumerate() {
            let is_same = before.is_some_and(|before| {
                before.program == line.program && before.compiled() == line.compiled()
            });
            if !is_same {
                text += &format!("\n{}: {}\n", line.program, line.compiled());
            }
            before = Some(line);
            let place = line.own().and_then(|frame| frame.place.as_deref());
            let function = line.function();
            let inlined = if function == line.compiled() {
                ""
            } else {
                function
            };
            let row = format!(
                "{:>6}  {:>16x}  {:<48}  {}  {inlined}",
                at + 1,
                line.pc,
                line.text,
                place.unwrap_or(""),
            );
            text += row.trim_end();
            text.push('\n');
        }
        text
    }

    /// Returns each stack of calls, separated by semicolons, with the number of instructions in its
    /// innermost function: what flame graphs are made of.
    pub(crate) fn stacks(&self) -> Vec<String> {
        let mut walk = Walk::default();
        let mut counts: HashMap<String, u64> = HashMap::new();
        // The first turn only shows how programs got to where they enter the kernel.
        for turn in 0..2 {
            for (at, line) in self.lines.iter().enumerate() {
                if turn == 1 {
                    *counts.entry(walk.stack(line)).or_default() += 1;
                }
                if let Some(next) = self.lines.get((at + 1) % self.lines.len()) {
                    walk.go(line, next);
                }
            }
        }
        let mut stacks: Vec<String> = counts
            .into_iter()
            .map(|(stack, count)| format!("{stack} {count}"))
            .collect();
        stacks.sort();
        stacks
    }
}

/// Sorts by number, then by name.
fn most_first(counts: HashMap<&str, u64>) -> Vec<(&str, u64)> {
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(name, count)| (u64::MAX - count, name));
    counts
}

/// Follows calls and returns. The kernel starts with an empty stack each time; a program goes on
/// where it was.
#[derive(Default)]
struct Walk {
    /// Calls that have not returned.
    calls: Vec<Rc<Line>>,
    /// Calls of programs that are in the kernel, by the address at which they go on.
    resting: HashMap<(String, u64), Vec<Rc<Line>>>,
}

impl Walk {
    fn stack(&self, line: &Line) -> String {
        let functions = self.calls.iter().map(Rc::as_ref).chain([line]);
        let functions = functions.flat_map(|line| line.frames.iter().rev());
        let mut stack = line.program.clone();
        for frame in functions {
            stack.push(';');
            // Types of arrays have semicolons.
            stack += &frame.function.replace(';', ",");
        }
        stack
    }

    fn go(&mut self, line: &Rc<Line>, next: &Line) {
        match (line.ring, next.ring) {
            (Ring::User, Ring::Kernel) => {
                let calls = std::mem::take(&mut self.calls);
                // Behind a system call, or at the instruction that faulted.
                for pc in [line.next, line.pc] {
                    self.resting
                        .insert((line.program.clone(), pc), calls.clone());
                }
            }
            (Ring::Kernel, Ring::User) => {
                let resting = self.resting.get(&(next.program.clone(), next.pc));
                self.calls = resting.cloned().unwrap_or_default();
            }
            _ => match line.flow {
                Flow::Call => self.calls.push(Rc::clone(line)),
                Flow::Return => {
                    self.calls.pop();
                }
                Flow::Other => {}
            },
        }
    }
}

#[cfg(test)]
mod tests;
