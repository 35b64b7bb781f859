//! Disassembles linked programs: no vector or x87 registers, no red zone.
//!
//! The kernel does not save vector registers when it switches between kernel and servers, and
//! interrupts write below the stack pointer. Compiler flags see to that for code compiled here,
//! but not for the prebuilt parts of `core`; this check is the proof for what was really linked.
//!
//! Code is found by function symbols, so hand-written 16- and 32-bit entry code is left out. A
//! program in which symbols cover little of the code is refused, as then nothing is proved.

use std::fmt;

use anyhow::{Context, ensure};
use iced_x86::{CpuidFeature, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};

/// Percentage of the code that function symbols must cover. Hand-written code and padding are the
/// rest, which is much only in the loader.
const LEAST_COVERED_PERCENT: u64 = 60;

/// What is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// Nothing that touches the state of vector units.
    Plain,
    /// Also the instructions that save and restore that state as a whole.
    Kernel,
}

/// An instruction that must not be there.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    symbol: String,
    offset: u64,
    what: &'static str,
    instruction: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} in {}+{:#x}: {}",
            self.what, self.symbol, self.offset, self.instruction
        )
    }
}

/// Checks every function of an executable.
pub(crate) fn check(image: &[u8], rules: Rules) -> anyhow::Result<Vec<Finding>> {
    let file = ElfFile64::<object::Endianness>::parse(image).context("not an ELF file")?;
    let mut findings = Vec::new();
    let (mut code_bytes, mut covered_bytes) = (0, 0);
    for section in file
        .sections()
        .filter(|section| section.kind() == SectionKind::Text)
    {
        let (start, data) = (section.address(), section.data()?);
        code_bytes += data.len() as u64;
        let mut functions: Vec<(u64, u64, &str)> = file
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0)
            .filter(|symbol| symbol.section_index() == Some(section.index()))
            .filter_map(|symbol| Some((symbol.address(), symbol.size(), symbol.name().ok()?)))
            .collect();
        functions.sort_unstable();
        // Equal functions are folded into one with several names.
        functions.dedup_by_key(|function| function.0);
        for (address, size, name) in functions {
            let from = usize::try_from(address - start)?;
            let code = data
                .get(from..from + usize::try_from(size)?)
                .context("symbol too long")?;
            covered_bytes += size;
            check_function(
                Function {
                    name,
                    address,
                    code,
                },
                rules,
                &mut findings,
            );
        }
    }
    ensure!(code_bytes > 0, "no code");
    let percent = covered_bytes * 100 / code_bytes;
    ensure!(
        percent >= LEAST_COVERED_PERCENT,
        "symbols cover only {percent} % of the code"
    );
    Ok(findings)
}

struct Function<'a> {
    name: &'a str,
    address: u64,
    code: &'a [u8],
}

fn check_function(function: Function<'_>, rules: Rules, findings: &mut Vec<Finding>) {
    let decode =
        || Decoder::with_ip(64, function.code, function.address, DecoderOptions::NONE).into_iter();
    let frame_bytes = frame_bytes(decode());
    for instruction in decode() {
        let what = if uses_vector_state(&instruction, rules) {
            "vector or x87 state"
        } else if is_below_stack(&instruction, frame_bytes) {
            "access below the stack pointer"
        } else {
            continue;
        };
        findings.push(Finding {
            symbol: function.name.to_owned(),
            offset: instruction.ip() - function.address,
            what,
            instruction: format!("{:?}", instruction.code()),
        });
    }
}

fn uses_vector_state(instruction: &Instruction, rules: Rules) -> bool {
    let has_vector_operand = (0..instruction.op_count())
        .filter(|&i| instruction.op_kind(i) == OpKind::Register)
        .map(|i| instruction.op_register(i))
        .any(|register| {
            register.is_vector_register()
                || register.is_mm()
                || register.is_st()
                || register.is_k()
                || register.is_tmm()
        });
    let is_x87 = instruction.cpuid_features().iter().any(|feature| {
        matches!(
            feature,
            CpuidFeature::FPU | CpuidFeature::FPU287 | CpuidFeature::FPU387 | CpuidFeature::MMX
        )
    });
    let is_state_management = is_state_management(instruction.mnemonic());
    match rules {
        Rules::Plain => has_vector_operand || is_x87 || is_state_management,
        Rules::Kernel => (has_vector_operand || is_x87) && !is_state_management,
    }
}

/// Tells whether an instruction saves, restores or resets the state of vector units as a whole.
fn is_state_management(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Fxsave
            | M::Fxsave64
            | M::Fxrstor
            | M::Fxrstor64
            | M::Xsave
            | M::Xsave64
            | M::Xsaveopt
            | M::Xsaveopt64
            | M::Xsavec
            | M::Xsavec64
            | M::Xsaves
            | M::Xsaves64
            | M::Xrstor
            | M::Xrstor64
            | M::Xrstors
            | M::Xrstors64
            | M::Fninit
            | M::Ldmxcsr
            | M::Stmxcsr
    )
}

/// Returns the most bytes that a function with a frame pointer has between it and the stack
/// pointer, or `None` when it has no such frame or moves its stack pointer by amounts unknown.
///
/// The depth is counted along the code as it lies, not as it runs; after a return it is taken to
/// be the greatest so far. So it is never less than the truth, and what is found is real.
fn frame_bytes(code: impl Iterator<Item = Instruction>) -> Option<i64> {
    let (mut depth, mut deepest, mut has_frame) = (0i64, 0i64, false);
    for instruction in code {
        let is_on_stack = instruction.op0_register() == Register::RSP;
        match instruction.mnemonic() {
            Mnemonic::Push => depth += 8,
            Mnemonic::Pop => depth -= 8,
            Mnemonic::Sub if is_on_stack => depth += immediate(&instruction)?,
            Mnemonic::Add if is_on_stack => depth -= immediate(&instruction)?,
            Mnemonic::Mov if is_on_stack && instruction.op1_register() == Register::RBP => {
                depth = 0
            }
            Mnemonic::And | Mnemonic::Mov | Mnemonic::Xchg if is_on_stack => return None,
            Mnemonic::Mov if makes_frame(&instruction) => {
                (depth, deepest, has_frame) = (0, 0, true);
            }
            Mnemonic::Ret | Mnemonic::Ud2 | Mnemonic::Jmp => depth = deepest,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    has_frame.then_some(deepest)
}

/// Tells `mov rbp, rsp`.
fn makes_frame(instruction: &Instruction) -> bool {
    instruction.op0_register() == Register::RBP && instruction.op1_register() == Register::RSP
}

fn immediate(instruction: &Instruction) -> Option<i64> {
    match instruction.op1_kind() {
        OpKind::Immediate8to64 | OpKind::Immediate32to64 | OpKind::Immediate64 => {
            i64::try_from(instruction.immediate(1)).ok()
        }
        _ => None,
    }
}

/// Tells whether an instruction reads or writes memory below the stack pointer.
fn is_below_stack(instruction: &Instruction, frame_bytes: Option<i64>) -> bool {
    let has_memory = (0..instruction.op_count()).any(|i| instruction.op_kind(i) == OpKind::Memory);
    // `lea` computes an address and touches nothing; an index is not known here.
    if !has_memory
        || instruction.mnemonic() == Mnemonic::Lea
        || instruction.memory_index() != Register::None
    {
        return false;
    }
    let displacement = instruction.memory_displacement64().cast_signed();
    match instruction.memory_base() {
        Register::RSP => displacement < 0,
        Register::RBP => frame_bytes.is_some_and(|bytes| -displacement > bytes),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(code: &[u8], rules: Rules) -> Vec<&'static str> {
        let mut findings = Vec::new();
        check_function(
            Function {
                name: "f",
                address: 0x1000,
                code,
            },
            rules,
            &mut findings,
        );
        findings.into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn vector_and_x87_instructions_are_found() {
        for code in [
            &[0x0f, 0x28, 0xc1][..],   // movaps xmm0, xmm1
            &[0x66, 0x0f, 0xef, 0xc0], // pxor xmm0, xmm0
            &[0xc5, 0xfc, 0x28, 0xc1], // vmovaps ymm0, ymm1
            &[0xd9, 0xe8],             // fld1
            &[0xdd, 0x07],             // fld qword [rdi]
            &[0x0f, 0x6f, 0x07],       // movq mm0, [rdi]
            &[0x0f, 0x77],             // emms
        ] {
            assert_eq!(
                findings(code, Rules::Plain),
                ["vector or x87 state"],
                "{code:x?}"
            );
            assert_eq!(
                findings(code, Rules::Kernel),
                ["vector or x87 state"],
                "{code:x?}"
            );
        }
    }

    #[test]
    fn only_the_kernel_may_manage_vector_state() {
        for code in [
            &[0x48, 0x0f, 0xae, 0x27][..], // xsave64 [rdi]
            &[0x0f, 0xae, 0x0f],           // fxrstor [rdi]
            &[0xdb, 0xe3],                 // fninit
            &[0x0f, 0xae, 0x17],           // ldmxcsr [rdi]
        ] {
            assert_eq!(
                findings(code, Rules::Plain),
                ["vector or x87 state"],
                "{code:x?}"
            );
            assert!(findings(code, Rules::Kernel).is_empty(), "{code:x?}");
        }
    }

    #[test]
    fn ordinary_code_passes() {
        // push rbp; mov rbp, rsp; sub rsp, 16; mov [rbp-16], rdi; mfence; pause; add rsp, 16;
        // pop rbp; ret
        let code = [
            0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x10, 0x48, 0x89, 0x7d, 0xf0, 0x0f, 0xae,
            0xf0, 0xf3, 0x90, 0x48, 0x83, 0xc4, 0x10, 0x5d, 0xc3,
        ];
        assert!(findings(&code, Rules::Plain).is_empty());
    }

    #[test]
    fn the_red_zone_is_found_by_either_register() {
        // mov [rsp-8], rdi; ret
        assert_eq!(
            findings(&[0x48, 0x89, 0x7c, 0x24, 0xf8, 0xc3], Rules::Plain).len(),
            1
        );
        // push rbp; mov rbp, rsp; mov [rbp-8], rdi; pop rbp; ret
        let code = [0x55, 0x48, 0x89, 0xe5, 0x48, 0x89, 0x7d, 0xf8, 0x5d, 0xc3];
        assert_eq!(findings(&code, Rules::Plain).len(), 1);
    }
}
