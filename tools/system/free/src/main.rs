//! Shows memory use.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

use alloc::string::ToString;

use libsys::abi::PAGE_SIZE;
use skink_program::{Align, Failed, Outcome, Program, Table, human};

const HELP: &str = "\
Usage: free

Shows how much memory there is and what it is used for.
";

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    if !program.options(&[])?.operands.is_empty() {
        return Err(Failed::usage("too many arguments"));
    }
    let totals = program.memory()?.totals()?;
    let (machine, kernel) = program.system()?.system_info()?;
    let size = |pages: u64| human::size(pages.saturating_mul(PAGE_SIZE as u64));
    let mut table = Table::new(&[("MEMORY", Align::Left), ("SIZE", Align::Right)]);
    let mut row = |name: &str, value| table.row([name.to_string(), value]);
    row("machine", human::size(machine.ram_bytes));
    row("managed", size(totals.total));
    row("  free", size(totals.free));
    row("  anonymous", size(totals.anonymous));
    row("  objects", size(totals.objects));
    row("  tables", size(totals.tables));
    row("kernel pool", human::size(kernel.pool_bytes));
    row("  in use", human::size(kernel.pool_used));
    program.out().write_bytes(table.render().as_bytes())?;
    let text = alloc::format!(
        "\n{} spaces, {} objects, {} page faults, longest free run {}\n",
        totals.spaces,
        totals.object_count,
        totals.faults,
        size(totals.largest_free_run)
    );
    program.out().write_bytes(text.as_bytes())?;
    program.finish()
}
