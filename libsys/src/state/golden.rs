//! Golden schemas: that a layout of a state does not change without a migration.
//!
//! A file holds every schema that a server ever had, oldest first, each with its hash and in full.
//! To add one run the test with `SKINK_BLESS=1`; nothing can be taken out that way.

use alloc::format;
use alloc::string::String;

use super::{State, describe, known_schemas, schema_hash};

/// Compares a golden file with the schemas that a state knows. Returns what is to be added.
///
/// # Errors
///
/// What is wrong with the state: it has no shape, or there is no way from a schema of the file.
pub fn missing<S: State>(golden: &str) -> Result<Option<String>, String> {
    let text = describe::<S>().map_err(|error| format!("{}: {error}", S::SCHEMA))?;
    let known = known_schemas::<S>().into_iter().map(heading);
    let known: alloc::vec::Vec<String> = known.collect();
    let mut in_file = golden.lines().filter(|line| line.starts_with("schema "));
    if let Some(lost) = in_file
        .clone()
        .find(|line| !known.iter().any(|k| k == line))
    {
        return Err(format!(
            "there is no way from {lost}: name it in `State::Previous`"
        ));
    }
    let own = heading(schema_hash::<S>());
    let is_there = in_file.next_back() == Some(&own);
    Ok((!is_there).then(|| format!("{own}\n{text}\n")))
}

fn heading(schema: u64) -> String {
    format!("schema {schema:016x}")
}

/// Compares the schema of a state with the golden file at this path in the package; for use in
/// tests.
///
/// ```ignore
/// libsys::golden_schema!("tests/golden/state.txt", Tables);
/// ```
#[macro_export]
macro_rules! golden_schema {
    ($file:literal, $state:ty) => {{
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/", $file);
        let golden = std::fs::read_to_string(path).unwrap_or_default();
        let missing = $crate::state::golden::missing::<$state>(&golden);
        if let Some(missing) = missing.expect("all schemas so far can be read") {
            let is_blessed = std::env::var_os("SKINK_BLESS").is_some();
            assert!(
                is_blessed,
                "{path} lacks what is now the schema:\n{missing}"
            );
            std::fs::write(path, golden + &missing).expect("the golden file can be written");
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::missing;
    use crate::state::tests::versions::{Keys, List};
    use crate::state::tests::{OtherTable, Table};

    #[test]
    fn a_file_that_has_all_versions_passes() {
        let mut golden = missing::<Keys>("").unwrap().unwrap();
        golden += &missing::<List>(&golden).unwrap().unwrap();
        golden += &missing::<Table>(&golden).unwrap().unwrap();
        assert_eq!(missing::<Table>(&golden).unwrap(), None);
        assert!(golden.contains("struct { rows, changes }"));
    }

    #[test]
    fn a_layout_without_a_way_from_the_old_one_is_refused() {
        let golden = missing::<Table>("").unwrap().unwrap();
        assert!(missing::<OtherTable>(&golden).is_err());
        // Nor can a server go back.
        assert!(missing::<List>(&golden).is_err());
    }
}
