//! What opening and exporting a region tell.

use core::fmt;

/// What [`Region::open`](super::Region::open) found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// How the region looked.
    pub found: Found,
    /// The older schema in which the state was, if it was migrated.
    pub migrated_from: Option<u64>,
    /// Records replayed.
    pub replayed: u32,
    /// Records dropped because they were damaged. Where a whole journal could not be read, it
    /// counts as one.
    pub dropped: u32,
    /// Places where one bit was wrong, which was made right: nothing is lost by them.
    pub mended: u32,
}

impl Report {
    /// Returns whether anything was damaged or lost.
    pub fn has_losses(&self) -> bool {
        self.dropped > 0 || !matches!(self.found, Found::Fresh | Found::Intact)
    }

    /// Returns whether no record can be missing, whatever was damaged. When the word was damaged that
    /// says which half counts, nobody can tell whether the newer one was readable.
    pub fn is_complete(&self) -> bool {
        let is_whole = matches!(
            self.found,
            Found::Fresh | Found::Intact | Found::SnapshotDamaged
        );
        is_whole && self.dropped == 0
    }

    /// Logs what was found of `what`: losses as an error, wrong bits as a warning, a migration for information.
    pub fn log(&self, what: &str) {
        if self.has_losses() {
            log::error!("{what}: {self}");
        } else if self.mended > 0 {
            log::warn!("{what}: {self}");
        } else if self.migrated_from.is_some() {
            log::info!("{what}: {self}");
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.found {
            Found::Fresh => f.write_str("fresh"),
            Found::Intact => f.write_str("intact"),
            Found::SnapshotDamaged => f.write_str("snapshot damaged, older one replayed"),
            Found::PointerDamaged => f.write_str("pointer damaged, newest half taken"),
            Found::Lost => f.write_str("damaged beyond repair, starting empty"),
            Found::OtherSchema(found) => {
                write!(f, "schema {found:016x} is unknown, starting empty")
            }
        }?;
        if let Some(schema) = self.migrated_from {
            write!(f, "; migrated from schema {schema:016x}")?;
        }
        let Report {
            replayed, dropped, ..
        } = self;
        write!(f, "; {replayed} records replayed, {dropped} dropped")?;
        match self.mended {
            0 => Ok(()),
            mended => write!(f, "; a wrong bit mended in {mended} places"),
        }
    }
}

/// How a region looked when it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Found {
    /// Never used.
    #[default]
    Fresh,
    /// Used, and its snapshot good.
    Intact,
    /// The snapshot was damaged; the one before it and its journal gave the same state.
    SnapshotDamaged,
    /// The word that says which half counts was damaged; the newer of the readable halves was
    /// taken.
    PointerDamaged,
    /// Damaged so that nothing could be read.
    Lost,
    /// It held the state of this schema, which the program does not know.
    OtherSchema(u64),
}

/// The region has no room for the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("state region is full")
    }
}

impl core::error::Error for Full {}

/// Why a region cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// It is too small for the state, in the schema of this program.
    Full,
    /// It holds a state that this program cannot read. Nothing was changed.
    UnknownSchema {
        /// What it holds.
        found: u64,
        /// What the program has itself.
        known: u64,
    },
}

impl From<Full> for OpenError {
    fn from(Full: Full) -> Self {
        OpenError::Full
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Full => Full.fmt(f),
            OpenError::UnknownSchema { found, known } => write!(
                f,
                "state region has schema {found:016x}, which cannot be made into {known:016x}"
            ),
        }
    }
}

impl core::error::Error for OpenError {}

/// Why a region cannot be exported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExportError {
    /// The state does not fit in that schema.
    Full,
    /// The program knows no way to this schema.
    Unknown {
        /// The wanted schema.
        target: u64,
    },
    /// The state cannot be told in an older schema.
    Refused,
}

impl ExportError {
    /// Says it without the details.
    pub const fn why(self) -> &'static str {
        match self {
            ExportError::Full => "state region is full",
            ExportError::Unknown { .. } => "that schema is not known",
            ExportError::Refused => "this state cannot be told in an older schema",
        }
    }
}

impl From<Full> for ExportError {
    fn from(Full: Full) -> Self {
        ExportError::Full
    }
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExportError::Unknown { target } => write!(f, "schema {target:016x} is not known"),
            other => f.write_str(other.why()),
        }
    }
}

impl core::error::Error for ExportError {}
