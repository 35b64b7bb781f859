//! QEMU's execution log, as the instructions that the guest has executed.
//!
//! With one instruction in each translation block, QEMU's log has a line for each instruction:
//! `Trace CPU: HOST-ADDRESS [CS-BASE/PC/FLAGS/COMPILER-FLAGS] SYMBOL`. A block that was looked up
//! but not executed, because an interrupt or the end of a time slice came first, has the same line;
//! a line of another kind behind it takes it back.

/// Start of the line of a block.
const EXECUTED: &str = "Trace ";
/// What lines that take back the one before them start with (QEMU's accel/tcg/cpu-exec.c and
/// translate-all.c).
const TAKEN_BACK: [&str; 2] = [
    "Stopped execution of TB chain before ",
    "cpu_io_recompile: rewound execution of TB to ",
];
/// The privilege level in QEMU's flags of a block (HF_CPL_MASK in target/i386/cpu.h).
const LEVEL: u32 = 3;

/// Who executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ring {
    /// The kernel.
    Kernel,
    /// A program.
    User,
}

/// An instruction that was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Step {
    /// Where it is.
    pub(crate) pc: u64,
    /// Who has executed it.
    pub(crate) ring: Ring,
}

/// Reads a log; what it does not know it leaves out.
pub(crate) fn parse(log: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in log.lines() {
        if let Some(step) = executed(line) {
            steps.push(step);
        } else if let Some(pc) = taken_back(line)
            && steps.last().is_some_and(|step| step.pc == pc)
        {
            steps.pop();
        }
    }
    steps
}

fn executed(line: &str) -> Option<Step> {
    let (_, block) = line.strip_prefix(EXECUTED)?.split_once('[')?;
    let (block, _) = block.split_once(']')?;
    let mut parts = block.split('/').skip(1);
    let pc = u64::from_str_radix(parts.next()?, 16).ok()?;
    let flags = u32::from_str_radix(parts.next()?, 16).ok()?;
    let ring = if flags & LEVEL == 0 {
        Ring::Kernel
    } else {
        Ring::User
    };
    Some(Step { pc, ring })
}

fn taken_back(line: &str) -> Option<u64> {
    let rest = TAKEN_BACK
        .iter()
        .find_map(|start| line.strip_prefix(start))?;
    // Either the address alone, or behind the block's address in the host.
    let address = rest.split_once('[').map_or(rest, |(_, address)| address);
    let digits = address.split([']', ' ']).next()?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(pc: u64, ring: Ring) -> Step {
        Step { pc, ring }
    }

    #[test]
    fn a_line_is_an_instruction_and_its_level() {
        let log = "\
Trace 0: 0x7feaa4acfb00 [0000000000000000/000000000041477f/18c0cab3/ff020201] 
Trace 0: 0x7feaa4acfc40 [0000000000000000/ffffffff80022a4d/18c0cab0/ff020201] fast_call
";
        let expected = [
            step(0x41_477f, Ring::User),
            step(0xffff_ffff_8002_2a4d, Ring::Kernel),
        ];
        assert_eq!(parse(log), expected);
    }

    #[test]
    fn what_was_not_executed_after_all_is_taken_back() {
        let log = "\
Trace 0: 0x7feaa4ad7580 [0000000000000000/ffffffff800223fa/18c0cab0/ff020201] 
Trace 0: 0x7feaa4ad7700 [0000000000000000/ffffffff800223fd/18c0cab0/ff020201] 
Stopped execution of TB chain before 0x7feaa4ad7700 [ffffffff800223fd] 
Trace 0: 0x7feaa4ad7700 [0000000000000000/ffffffff800223fd/18c0cab0/ff020201] 
cpu_io_recompile: rewound execution of TB to ffffffff800223fd
Trace 0: 0x7feaa4ad7700 [0000000000000000/ffffffff800223fd/18c0cab0/ff020201] 
";
        let pcs: Vec<u64> = parse(log).iter().map(|step| step.pc & 0xfff).collect();
        assert_eq!(pcs, [0x3fa, 0x3fd]);
    }

    #[test]
    fn other_lines_are_left_out() {
        let log = "\
IN: \n\
Trace 0: 0x7feaa4acfb00 [00000000/x/18c0cab3/ff020201]\n\
Trace 0: 0x7feaa4acfb00 [0000000000000000/0041\n\
Stopped execution of TB chain before 0x7feaa4ad7700 [ffffffff800223fd]\n";
        assert_eq!(parse(log), []);
    }
}
