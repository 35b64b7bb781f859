//! A linked program as the profiler sees it: its code, and what each address means in the sources.

use std::path::Path;

use addr2line::Context as Lines;
use addr2line::gimli::{Dwarf, EndianSlice, LittleEndian};
use anyhow::Context;
use iced_x86::{ConstantOffsets, Decoder, DecoderOptions, FlowControl, Instruction};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};

/// Start of the names that the linker script defines.
const LINKER_MARK: &str = "__";
/// Folders of other people's sources; what is in front of them is of no interest, and one part
/// behind them neither: a version of the compiler or a package index.
const FOREIGN: [&str; 2] = ["/rustc/", "/registry/src/"];

/// A function that an instruction belongs to: the one that was compiled, or one inlined into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The function's name, with its file's name in front when the lines say no more.
    pub(crate) function: String,
    /// File and line, if they are known; the file relative to the workspace if it is in there, or
    /// to the standard library.
    pub(crate) place: Option<String>,
    /// Whether the file is in the workspace.
    pub(crate) is_ours: bool,
}

/// A function: its instructions, up to the first bytes that are none.
pub(crate) struct Function<'data> {
    pub(crate) instructions: Vec<Instruction>,
    start: u64,
    bytes: &'data [u8],
}

impl<'data> Function<'data> {
    /// Decodes the bytes at an address.
    pub(crate) fn decode(start: u64, bytes: &'data [u8]) -> Self {
        let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
        let instructions = decoder.iter().take_while(|one| !one.is_invalid()).collect();
        Self {
            instructions,
            start,
            bytes,
        }
    }

    /// Returns the bytes of an instruction of it.
    pub(crate) fn bytes_of(&self, instruction: &Instruction) -> &'data [u8] {
        let start = (instruction.ip() - self.start) as usize;
        &self.bytes[start..start + instruction.len()]
    }

    /// Returns where an instruction of it has its numbers.
    pub(crate) fn constant_offsets(&self, instruction: &Instruction) -> ConstantOffsets {
        let bytes = self.bytes_of(instruction);
        let mut decoder = Decoder::with_ip(64, bytes, instruction.ip(), DecoderOptions::NONE);
        let same = decoder.decode();
        decoder.get_constant_offsets(&same)
    }
}

/// A program with its debugging information.
pub(crate) struct Image<'data> {
    /// The program's name.
    pub(crate) name: String,
    sections: Vec<(u64, &'data [u8])>,
    /// Functions by address.
    symbols: Vec<(u64, String)>,
    lines: Lines<EndianSlice<'data, LittleEndian>>,
    /// The workspace's folder, with a slash at its end.
    root: String,
}

impl<'data> Image<'data> {
    /// Reads an executable.
    pub(crate) fn parse(name: &str, bytes: &'data [u8], root: &Path) -> anyhow::Result<Self> {
        let file = ElfFile64::<object::LittleEndian>::parse(bytes).context("not an ELF file")?;
        let mut sections = Vec::new();
        for section in file.sections() {
            if section.kind() == SectionKind::Text {
                sections.push((section.address(), section.data()?));
            }
        }
        // Hand-written entries are labels without a type.
        let kinds = [SymbolKind::Text, SymbolKind::Label, SymbolKind::Unknown];
        let is_code = |address: u64| {
            let mut code = sections.iter();
            code.any(|(start, bytes)| (*start..*start + bytes.len() as u64).contains(&address))
        };
        let mut symbols: Vec<(u64, String)> = file
            .symbols()
            .filter(|symbol| kinds.contains(&symbol.kind()) && is_code(symbol.address()))
            .filter_map(|symbol| {
                let name = symbol.name().ok().filter(|name| !name.is_empty())?;
                let name = format!("{:#}", rustc_demangle::demangle(name));
                Some((symbol.address(), name))
            })
            .collect();
        // Equal functions are folded into one with several names, and marks of the linker script
        // stand at functions.
        symbols.sort_by_cached_key(|(address, name)| {
            (*address, name.starts_with(LINKER_MARK), name.clone())
        });
        symbols.dedup_by_key(|symbol| symbol.0);
        let dwarf = Dwarf::load(|id| {
            let section = file.section_by_name(id.name());
            let data = section.map_or(Ok(&[][..]), |section| section.data())?;
            Ok::<_, object::Error>(EndianSlice::new(data, LittleEndian))
        })?;
        Ok(Self {
            name: name.to_owned(),
            sections,
            symbols,
            lines: Lines::from_dwarf(dwarf)?,
            root: format!("{}/", root.display()),
        })
    }

    /// Returns all functions, by address.
    pub(crate) fn functions(&self) -> impl Iterator<Item = Function<'data>> {
        let starts = self.symbols.iter().map(|(start, _)| *start);
        let ends = starts.clone().skip(1).chain([u64::MAX]);
        starts.zip(ends).filter_map(|(start, end)| {
            let (section, bytes) = self.sections.iter().find(|(section, bytes)| {
                (*section..*section + bytes.len() as u64).contains(&start)
            })?;
            let rest = &bytes[(start - section) as usize..];
            let length = rest
                .len()
                .min(usize::try_from(end - start).unwrap_or(usize::MAX));
            Some(Function::decode(start, &rest[..length]))
        })
    }

    /// Decodes the instruction at an address.
    pub(crate) fn instruction(&self, pc: u64) -> Option<Instruction> {
        let code = self.sections.iter().find_map(|(start, bytes)| {
            let offset = usize::try_from(pc.checked_sub(*start)?).ok()?;
            bytes.get(offset..).filter(|code| !code.is_empty())
        })?;
        let instruction = Decoder::with_ip(64, code, pc, DecoderOptions::NONE).decode();
        (!instruction.is_invalid()).then_some(instruction)
    }

    /// Returns whether one instruction can come behind another.
    pub(crate) fn leads(&self, from: u64, to: u64) -> bool {
        let (Some(first), true) = (self.instruction(from), self.instruction(to).is_some()) else {
            return false;
        };
        let is_next = to == first.next_ip();
        match first.flow_control() {
            FlowControl::ConditionalBranch => is_next || to == first.near_branch_target(),
            FlowControl::UnconditionalBranch | FlowControl::Call => {
                to == first.near_branch_target()
            }
            FlowControl::IndirectBranch | FlowControl::IndirectCall | FlowControl::Return => true,
            // A repeated string instruction is a step for each turn.
            _ => is_next || (to == from && first.is_string_instruction()),
        }
    }

    /// Returns the name of the function that was compiled and has this address.
    pub(crate) fn symbol(&self, pc: u64) -> &str {
        let behind = self.symbols.partition_point(|(start, _)| *start <= pc);
        let symbol = behind.checked_sub(1).and_then(|at| self.symbols.get(at));
        symbol.map_or("?", |(_, name)| name)
    }

    /// Returns the functions of an instruction: the innermost inlined one first, the one that was
    /// compiled last.
    pub(crate) fn frames(&self, pc: u64) -> anyhow::Result<Vec<Frame>> {
        let mut found = Vec::new();
        let mut frames = self.lines.find_frames(pc).skip_all_loads()?;
        while let Some(frame) = frames.next()? {
            let location = frame.location.as_ref();
            let file = location.and_then(|location| location.file).unwrap_or("");
            let name = match &frame.function {
                Some(function) => function.demangle()?.into_owned(),
                None => String::new(),
            };
            let ours = file.strip_prefix(&self.root);
            let shown = ours.unwrap_or_else(|| without_origin(file));
            // Line 0 stands for code that the compiler has merged from several lines.
            let line = location.and_then(|location| location.line);
            let place = match line.filter(|line| *line > 0) {
                Some(line) => format!("{shown}:{line}"),
                None => shown.to_owned(),
            };
            found.push(Frame {
                function: qualified(&name, file),
                place: (!file.is_empty()).then_some(place),
                is_ours: ours.is_some(),
            });
        }
        if found.is_empty() {
            found.push(Frame {
                function: String::new(),
                place: None,
                is_ours: true,
            });
        }
        // The symbol has the whole name.
        if let Some(compiled) = found.last_mut() {
            self.symbol(pc).clone_into(&mut compiled.function);
        }
        Ok(found)
    }
}

/// Takes away from the name of a file where its package has been put.
fn without_origin(file: &str) -> &str {
    let behind = |folder: &&str| Some(file.split_once(*folder)?.1.split_once('/')?.1);
    FOREIGN.iter().find_map(behind).unwrap_or(file)
}

/// Puts the name of a file in front of a function's name that says not where it is from.
fn qualified(function: &str, file: &str) -> String {
    let path = Path::new(file);
    let stem = |path: &Path| Some(path.file_stem()?.to_string_lossy().into_owned());
    let module = match stem(path) {
        // The name of the package is two folders above.
        Some(root) if root == "lib" || root == "main" => {
            path.parent().and_then(Path::parent).and_then(stem)
        }
        Some(folder) if folder == "mod" => path.parent().and_then(stem),
        module => module,
    };
    let (plain, _) = function.split_once('<').unwrap_or((function, ""));
    match module {
        Some(module) if !plain.is_empty() && !plain.contains("::") => {
            format!("{module}::{function}")
        }
        _ => function.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This program, as an example of one.
    fn own() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    fn parse(bytes: &[u8]) -> Image<'_> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
        Image::parse("own", bytes, &root.canonicalize().unwrap()).unwrap()
    }

    /// Is looked for; two instructions at least.
    #[unsafe(no_mangle)]
    extern "C" fn xtask_profile_example(value: u64) -> u64 {
        value.wrapping_mul(3)
    }

    #[test]
    fn an_address_has_a_function_and_a_line() {
        assert_eq!(xtask_profile_example(2), 6);
        let bytes = own();
        let image = parse(&bytes);
        let (address, _) = image
            .symbols
            .iter()
            .find(|(_, name)| name == "xtask_profile_example")
            .unwrap();
        let first = image.instruction(*address).unwrap();
        assert_eq!(image.symbol(first.next_ip()), "xtask_profile_example");
        let frames = image.frames(*address).unwrap();
        let compiled = frames.last().unwrap();
        assert_eq!(compiled.function, "xtask_profile_example");
        assert!(compiled.is_ours);
        let place = compiled.place.as_deref().unwrap();
        assert!(
            place.starts_with("tools/host/xtask/src/profile/image.rs:"),
            "{place}"
        );
        assert!(image.leads(*address, first.next_ip()));
        assert!(!image.leads(*address, first.next_ip() + 0x1000));
    }

    #[test]
    fn unknown_addresses_are_no_error() {
        let bytes = own();
        let image = parse(&bytes);
        assert!(image.instruction(0).is_none());
        assert_eq!(image.symbol(0), "?");
        assert_eq!(image.frames(0).unwrap().len(), 1);
        assert!(!image.leads(0, 1));
    }

    #[test]
    fn other_files_are_refused() {
        assert!(Image::parse("x", b"text", Path::new("/")).is_err());
    }

    #[test]
    fn short_names_get_their_module() {
        assert_eq!(qualified("get", "/a/src/thread.rs"), "thread::get");
        assert_eq!(qualified("get", "/a/libsys/src/lib.rs"), "libsys::get");
        assert_eq!(qualified("get", "/a/src/ptr/mod.rs"), "ptr::get");
        assert_eq!(qualified("a::get", "/a/src/thread.rs"), "a::get");
        assert_eq!(qualified("get<a::B>", "/a/cell.rs"), "cell::get<a::B>");
        assert_eq!(qualified("get", ""), "get");
    }

    #[test]
    fn places_of_other_sources_are_short() {
        let library = "/rustc/59807616e1/library/core/src/cell.rs";
        assert_eq!(without_origin(library), "library/core/src/cell.rs");
        let package = "/root/.cargo/registry/src/index-1/talc-5.1.1/src/lib.rs";
        assert_eq!(without_origin(package), "talc-5.1.1/src/lib.rs");
        assert_eq!(without_origin("/a/b.rs"), "/a/b.rs");
    }
}
