//! Mistakes in code: how an instruction is changed to have one, without moving any other.

use std::fmt;

use iced_x86::{
    Code, ConstantOffsets, Encoder, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, OpKind, Register,
};
use skink_abi::Syscall;

use crate::profile::image::Function;

/// The classes: random bits, a wrong operand that is read or written, a wrong address, the other
/// way at a branch, a wrong bound of a loop, something left out, an argument left out, an interrupt
/// or a wake-up that is lost.
pub(super) const CODE_CLASSES: [&str; 9] = [
    "text",
    "source",
    "destination",
    "pointer",
    "branch",
    "loop",
    "nop",
    "interface",
    "interrupt",
];

/// An instruction that does nothing.
const NOP: u8 = 0x90;
/// `xor eax, eax`, as long as `syscall`: the call says that it is done.
const NOTHING_DONE: [u8; 2] = [0x31, 0xc0];
/// How far before a call its arguments are looked for, in instructions.
const ARGUMENTS: usize = 6;
/// How far before a system call its number is looked for, in instructions.
const NUMBER: usize = 24;
/// How far before the branch of a loop its bound is looked for, in instructions.
const BOUND: usize = 3;

const REGISTERS: [Register; 15] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RBX,
    Register::RBP,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];

/// Registers in which arguments of functions and of system calls are passed.
const ARGUMENT_REGISTERS: [Register; 7] = [
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::RCX,
    Register::R8,
    Register::R9,
    Register::R10,
];

/// Bytes of a text, and others to put there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) address: u64,
    pub(super) old: Vec<u8>,
    pub(super) new: Vec<u8>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |bytes: &[u8]| {
            bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        write!(
            f,
            "{:x} {} {}",
            self.address,
            hex(&self.old),
            hex(&self.new)
        )
    }
}

/// Returns all changes of a function, with their classes.
pub(super) fn changes(function: &Function<'_>) -> Vec<(&'static str, Change)> {
    let mut factory = InstructionInfoFactory::new();
    let mut found = Vec::new();
    for (at, instruction) in function.instructions.iter().enumerate() {
        if matches!(
            instruction.mnemonic(),
            Mnemonic::Nop | Mnemonic::Int3 | Mnemonic::Ud2
        ) {
            continue;
        }
        let one = One {
            function,
            instruction,
            old: function.bytes_of(instruction),
        };
        let accesses: Vec<OpAccess> = {
            let info = factory.info(instruction);
            (0..instruction.op_count())
                .map(|op| info.op_access(op))
                .collect()
        };
        let mut add = |class, new: Option<Vec<u8>>| {
            let change = new.filter(|new| *new != one.old).map(|new| Change {
                address: instruction.ip(),
                old: one.old.to_vec(),
                new,
            });
            found.extend(change.map(|change| (class, change)));
        };
        add("text", Some(one.with_bit(0, one.old.len())));
        add("nop", Some(vec![NOP; one.old.len()]));
        add("source", one.other_source(&accesses));
        add("destination", one.other_destination(&accesses));
        add("pointer", one.other_pointer());
        if one.is_argument(at) {
            add("interface", Some(vec![NOP; one.old.len()]));
        }
        if one.is_wake_up(at) {
            add("interrupt", Some(NOTHING_DONE.to_vec()));
        }
        if instruction.flow_control() == FlowControl::ConditionalBranch {
            if instruction.near_branch_target() > instruction.ip() {
                add("branch", one.negated());
            } else {
                found.extend(one.other_bound(at).map(|change| ("loop", change)));
            }
        }
    }
    found
}

/// An instruction that is to be changed.
struct One<'a> {
    function: &'a Function<'a>,
    instruction: &'a Instruction,
    old: &'a [u8],
}

impl One<'_> {
    /// Returns a number that depends on the place only.
    fn number(&self, below: usize) -> usize {
        let word = self.instruction.ip().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (word >> 32) as usize % below.max(1)
    }

    /// Turns over one bit of some bytes.
    fn with_bit(&self, start: usize, bytes: usize) -> Vec<u8> {
        let mut new = self.old.to_vec();
        let bit = self.number(bytes * 8);
        new[start + bit / 8] ^= 1 << (bit % 8);
        new
    }

    /// Encodes another instruction in the place of this one; it must not be longer.
    fn encode(&self, other: &Instruction) -> Option<Vec<u8>> {
        let mut encoder = Encoder::new(64);
        encoder.encode(other, self.instruction.ip()).ok()?;
        let mut bytes = encoder.take_buffer();
        if bytes.len() > self.old.len() {
            return None;
        }
        bytes.resize(self.old.len(), NOP);
        Some(bytes)
    }

    /// Returns the other registers of the same size, beginning with any of them.
    fn others(&self, register: Register) -> impl Iterator<Item = Register> {
        let is_free = register.is_gpr() && register.full_register() != Register::RSP;
        let place = REGISTERS
            .iter()
            .position(|known| *known == register.full_register());
        let place = place.filter(|_| is_free && register.size() >= 4);
        let first = self.number(REGISTERS.len() - 1);
        let steps =
            (0..REGISTERS.len() - 1).map(move |step| (first + step) % (REGISTERS.len() - 1) + 1);
        steps.filter_map(move |step| {
            let other = REGISTERS[(place? + step) % REGISTERS.len()];
            Some(if register.size() == 8 {
                other
            } else {
                other.full_register32()
            })
        })
    }

    fn with_register(&self, op: u32) -> Option<Vec<u8>> {
        if self.instruction.op_kind(op) != OpKind::Register {
            return None;
        }
        let mut others = self.others(self.instruction.op_register(op));
        others.find_map(|register| {
            let mut other = *self.instruction;
            other.try_set_op_register(op, register).ok()?;
            self.encode(&other)
        })
    }

    fn other_source(&self, accesses: &[OpAccess]) -> Option<Vec<u8>> {
        let is_read = |access: &OpAccess| matches!(access, OpAccess::Read | OpAccess::CondRead);
        let reads = (0..).zip(accesses).filter(|(_, access)| is_read(access));
        reads
            .into_iter()
            .find_map(|(op, _)| self.with_register(op))
            .or_else(|| self.with_other_immediate())
    }

    fn other_destination(&self, accesses: &[OpAccess]) -> Option<Vec<u8>> {
        let is_written = |access: &OpAccess| {
            matches!(
                access,
                OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite
            )
        };
        accesses.first().filter(|access| is_written(access))?;
        self.with_register(0)
    }

    fn offsets(&self) -> ConstantOffsets {
        self.function.constant_offsets(self.instruction)
    }

    fn with_other_immediate(&self) -> Option<Vec<u8>> {
        let offsets = self.offsets();
        let is_operand =
            offsets.has_immediate() && self.instruction.flow_control() == FlowControl::Next;
        is_operand.then(|| self.with_bit(offsets.immediate_offset(), offsets.immediate_size()))
    }

    /// Takes the address from another register, or from elsewhere by one bit.
    fn other_pointer(&self) -> Option<Vec<u8>> {
        let mut ops = 0..self.instruction.op_count();
        if !ops.any(|op| self.instruction.op_kind(op) == OpKind::Memory) {
            return None;
        }
        let mut bases = self.others(self.instruction.memory_base());
        let with_other_base = bases.find_map(|base| {
            let mut other = *self.instruction;
            other.set_memory_base(base);
            self.encode(&other)
        });
        if with_other_base.is_some() {
            return with_other_base;
        }
        let offsets = self.offsets();
        offsets
            .has_displacement()
            .then(|| self.with_bit(offsets.displacement_offset(), offsets.displacement_size()))
    }

    fn negated(&self) -> Option<Vec<u8>> {
        let mut other = *self.instruction;
        other.negate_condition_code();
        self.encode(&other)
    }

    /// Changes what ends a loop: the bound by one if it is a number, else the condition.
    fn other_bound(&self, at: usize) -> Option<Change> {
        let before = &self.function.instructions[at.saturating_sub(BOUND)..at];
        let compare = before
            .iter()
            .rev()
            .find(|one| one.mnemonic() == Mnemonic::Cmp);
        let by_one = compare.and_then(|compare| {
            let offsets = self.function.constant_offsets(compare);
            let old = self.function.bytes_of(compare).to_vec();
            let mut new = old.clone();
            let low = new.get_mut(
                offsets
                    .has_immediate()
                    .then(|| offsets.immediate_offset())?,
            )?;
            *low = low.wrapping_add(1);
            Some(Change {
                address: compare.ip(),
                old,
                new,
            })
        });
        by_one.or_else(|| {
            Some(Change {
                address: self.instruction.ip(),
                old: self.old.to_vec(),
                new: self.negated()?,
            })
        })
    }

    /// Returns whether it sets an argument of a call that follows at once.
    fn is_argument(&self, at: usize) -> bool {
        let sets = matches!(
            self.instruction.mnemonic(),
            Mnemonic::Mov | Mnemonic::Lea | Mnemonic::Xor
        );
        let register = self.instruction.op0_register().full_register();
        if !sets || !ARGUMENT_REGISTERS.contains(&register) {
            return false;
        }
        for next in self.function.instructions[at + 1..].iter().take(ARGUMENTS) {
            if matches!(
                next.flow_control(),
                FlowControl::Call | FlowControl::IndirectCall
            ) || next.code() == Code::Syscall
            {
                return true;
            }
            let is_over = next.flow_control() != FlowControl::Next
                || next.op0_register().full_register() == register;
            if is_over {
                return false;
            }
        }
        false
    }

    /// Returns whether it is a system call that lets interrupts come or wakes somebody.
    fn is_wake_up(&self, at: usize) -> bool {
        if self.instruction.code() != Code::Syscall {
            return false;
        }
        let wanted = [
            Syscall::InterruptAck,
            Syscall::InterruptBind,
            Syscall::Notify,
        ];
        let before = self.function.instructions[..at].iter().rev().take(NUMBER);
        let number = before
            .take_while(|one| one.flow_control() == FlowControl::Next)
            .find(|one| one.op0_register().full_register() == Register::RAX);
        number.is_some_and(|number| {
            number.code() == Code::Mov_r32_imm32
                && wanted
                    .iter()
                    .any(|call| *call as u32 == number.immediate32())
        })
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    const START: u64 = 0x40_1000;

    /// Returns the changes of a class: address and new bytes.
    fn of(class: &str, bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let function = Function::decode(START, bytes);
        let all = changes(&function);
        for (_, change) in &all {
            assert_eq!(change.old.len(), change.new.len());
            assert_ne!(change.old, change.new);
        }
        all.into_iter()
            .filter(|(known, _)| *known == class)
            .map(|(_, change)| (change.address - START, change.new))
            .collect()
    }

    fn decode(bytes: &[u8]) -> Instruction {
        Decoder::with_ip(64, bytes, START, DecoderOptions::NONE).decode()
    }

    #[test]
    fn branches_go_the_other_way_and_loops_end_one_turn_off() {
        // cmp eax, 7; je +2; nop; jb -7
        let code = [0x83, 0xf8, 7, 0x74, 2, 0x90, 0x72, 0xf8];
        assert_eq!(of("branch", &code), [(3, vec![0x75, 2])]);
        assert_eq!(of("loop", &code), [(0, vec![0x83, 0xf8, 8])]);
        // cmp eax, ecx; jb -4
        let code = [0x39, 0xc8, 0x72, 0xfc];
        assert_eq!(of("loop", &code), [(2, vec![0x73, 0xfc])]);
    }

    #[test]
    fn operands_are_replaced_by_others_of_their_size() {
        // mov rax, [rbx + 8]
        let code = [0x48, 0x8b, 0x43, 8];
        let pointer = decode(&of("pointer", &code)[0].1);
        assert_eq!(pointer.op0_register(), Register::RAX);
        assert_ne!(pointer.memory_base(), Register::RBX);
        let destination = decode(&of("destination", &code)[0].1);
        assert_ne!(destination.op0_register(), Register::RAX);
        assert_eq!(destination.memory_base(), Register::RBX);
        assert_eq!(of("source", &code), []);
        // mov ecx, edx
        let source = decode(&of("source", &[0x89, 0xd1])[0].1);
        assert_eq!(source.op0_register(), Register::ECX);
        assert_ne!(source.op1_register(), Register::EDX);
        // The stack pointer is spared: mov rsp, rax has another source only.
        assert_eq!(of("destination", &[0x48, 0x89, 0xc4]), []);
    }

    #[test]
    fn arguments_and_wake_ups_are_left_out() {
        // mov edi, 5; call +0
        let code = [0xbf, 5, 0, 0, 0, 0xe8, 0, 0, 0, 0];
        assert_eq!(of("interface", &code), [(0, vec![NOP; 5])]);
        // mov eax, 63; syscall
        let ack = [0xb8, 63, 0, 0, 0, 0x0f, 5];
        assert_eq!(of("interrupt", &ack), [(5, NOTHING_DONE.to_vec())]);
        // mov eax, 1; syscall
        assert_eq!(of("interrupt", &[0xb8, 1, 0, 0, 0, 0x0f, 5]), []);
    }

    #[test]
    fn every_change_of_this_program_fits() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let image = crate::profile::image::Image::parse("own", &bytes, "/".as_ref()).unwrap();
        let mut classes: Vec<&str> = Vec::new();
        for function in image.functions().take(300) {
            for (class, change) in changes(&function) {
                assert_eq!(change.old.len(), change.new.len());
                classes.push(class);
            }
        }
        classes.sort_unstable();
        classes.dedup();
        // It has no system calls of this system.
        assert_eq!(classes.len(), CODE_CLASSES.len() - 1, "{classes:?}");
    }
}
