//! What memory and handles are in use.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use libipc::proto::memory::MemoryManagerClient;
use libsys::{Handle, System};
use skink_program::Failed;
use skink_program::files::printable;

/// Numbers by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Snapshot(Vec<(String, u64)>);

impl Snapshot {
    /// Takes the numbers.
    ///
    /// # Errors
    ///
    /// When kernel or memory manager do not answer.
    pub(crate) fn take(
        system: &Handle<System>,
        memory: &MemoryManagerClient,
    ) -> Result<Self, Failed> {
        let totals = memory.totals()?;
        // This program notes what it sees: its own memory is no leak.
        let own = memory.usage()?.resident_pages;
        let (_, kernel) = system.system_info()?;
        let named = |name: &str, value| (String::from(name), value);
        let mut numbers = alloc::vec![
            named(
                "frames in use",
                totals.total.saturating_sub(totals.free).saturating_sub(own)
            ),
            named("memory objects", totals.object_count),
            named("spaces", totals.spaces),
            named("kernel bytes", kernel.pool_used),
        ];
        let (mut processes, mut next) = (0, 0);
        while let Some(info) = system.next_process(next)? {
            processes += 1;
            let length = info.name.iter().position(|byte| *byte == 0);
            let name = printable(&info.name[..length.unwrap_or(info.name.len())]);
            numbers.push((format!("handles of {name}"), info.handles.into()));
            next = info.id.saturating_add(1);
        }
        numbers.push(named("processes", processes));
        Ok(Snapshot(numbers))
    }

    /// Returns what is more than in an earlier snapshot: name, number before, number now.
    pub(crate) fn more_than(&self, before: &Snapshot) -> Vec<(String, u64, u64)> {
        let old = |name: &String| {
            let found = before.0.iter().find(|(known, _)| known == name);
            found.map_or(0, |(_, value)| *value)
        };
        let all = self.0.iter();
        all.map(|(name, value)| (name.clone(), old(name), *value))
            .filter(|(_, old, value)| value > old)
            .collect()
    }
}
