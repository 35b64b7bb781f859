//! Takes out of an executable what the machine does not need.

use anyhow::Context;
use object::build::elf::{Builder, SectionData};

/// What to keep besides what is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// The symbol table and its names.
    Symbols,
    /// Nothing.
    Nothing,
}

/// Returns an executable without debugging information. What is loaded stays where it is.
pub(crate) fn strip(image: &[u8], keep: Keep) -> anyhow::Result<Vec<u8>> {
    let mut builder = Builder::read(image).context("not an ELF file")?;
    for section in builder.sections.iter_mut() {
        let is_symbols = matches!(section.data, SectionData::Symbol | SectionData::String);
        let is_kept = section.is_alloc()
            || matches!(section.data, SectionData::SectionString)
            || (is_symbols && keep == Keep::Symbols);
        section.delete = !is_kept;
    }
    if keep == Keep::Nothing {
        for symbol in builder.symbols.iter_mut() {
            symbol.delete = true;
        }
    }
    builder.delete_orphan_symbols();
    let mut stripped = Vec::new();
    builder
        .write(&mut stripped)
        .context("cannot write the stripped file")?;
    Ok(stripped)
}
