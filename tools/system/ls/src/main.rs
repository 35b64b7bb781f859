//! Lists directories.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use libipc::proto::vfs::{Attributes, DirectoryEntry, FileKind, LastLink};
use skink_program::files::{Files, below, printable};
use skink_program::{Align, Failed, Flag, Options, Outcome, Program, Table, columns, human};

const HELP: &str = "\
Usage: ls [-la] [PATH]...

Lists files and what is in directories, sorted by name.

  -l, --long  one line each: kind and mode, links, owner, group, size, time, name
  -a, --all   names that start with a dot too
";

const FLAGS: &[Flag] = &[
    Flag {
        letter: 'l',
        name: "long",
    },
    Flag {
        letter: 'a',
        name: "all",
    },
];

skink_program::program!(HELP, run);

/// A name to be shown, and where it is.
struct Item {
    name: Vec<u8>,
    path: Vec<u8>,
}

fn run(program: &mut Program) -> Outcome {
    let mut options = program.options(FLAGS)?;
    if options.operands.is_empty() {
        options.operands.push(".".into());
    }
    let files = Files::new(program)?;
    let (mut singles, mut directories) = (Vec::new(), Vec::new());
    for operand in &options.operands {
        let path = program.absolute(operand).into_bytes();
        // A long listing shows a link itself, unless a slash asks for what it leads to.
        let is_kept = options.has('l') && !operand.ends_with('/');
        let last = if is_kept {
            LastLink::Keep
        } else {
            LastLink::Follow
        };
        match files.vfs().stat(&path, last) {
            Ok(attributes) if attributes.kind == FileKind::Directory => {
                directories.push((operand.clone(), path));
            }
            Ok(_) => singles.push(Item {
                name: operand.clone().into_bytes(),
                path,
            }),
            Err(failure) => program.complain(Failed::from(failure).about(operand).message),
        }
    }
    let mut has_printed = !singles.is_empty();
    print(program, &files, singles, &options)?;
    for (operand, path) in directories {
        if options.operands.len() > 1 {
            let blank = if has_printed { "\n" } else { "" };
            program
                .out()
                .write_bytes(format!("{blank}{operand}:\n").as_bytes())?;
        }
        has_printed = true;
        match files.list(&path) {
            Ok(entries) => {
                let items = visible(&entries, &options, &path);
                print(program, &files, items, &options)?;
            }
            Err(failed) => program.complain(failed.message),
        }
    }
    program.finish()
}

fn visible(entries: &[DirectoryEntry], options: &Options, directory: &[u8]) -> Vec<Item> {
    let is_visible = |entry: &&DirectoryEntry| options.has('a') || !entry.name.starts_with(b".");
    entries
        .iter()
        .filter(is_visible)
        .map(|entry| Item {
            name: entry.name.clone(),
            path: below(directory, &entry.name),
        })
        .collect()
}

fn print(
    program: &mut Program,
    files: &Files,
    items: Vec<Item>,
    options: &Options,
) -> Result<(), Failed> {
    let text = if options.has('l') {
        long(program, files, &items)
    } else {
        let names: Vec<String> = items.iter().map(|item| printable(&item.name)).collect();
        let width = if program.out().is_terminal() {
            columns::WIDTH
        } else {
            1
        };
        columns::render(&names, width)
    };
    program.out().write_bytes(text.as_bytes())
}

fn long(program: &mut Program, files: &Files, items: &[Item]) -> String {
    use Align::{Left, Right};
    let mut table = Table::without_titles(&[Left, Right, Right, Right, Right, Left, Left]);
    for item in items {
        let attributes = match files.stat(&item.path, LastLink::Keep) {
            Ok(attributes) => attributes,
            Err(failed) => {
                program.complain(failed.message);
                continue;
            }
        };
        let mut name = printable(&item.name);
        if attributes.kind == FileKind::Symlink {
            let target = files.vfs().read_link(&item.path);
            let target = target.map_or("?".to_string(), |target| printable(&target));
            name = format!("{name} -> {target}");
        }
        table.row([
            mode(&attributes),
            attributes.links.to_string(),
            attributes.owner.to_string(),
            attributes.group.to_string(),
            attributes.bytes.to_string(),
            human::date(attributes.modified_s),
            name,
        ]);
    }
    table.render()
}

/// Returns kind and permissions as `drwxr-xr-x`.
fn mode(attributes: &Attributes) -> String {
    let kind = match attributes.kind {
        FileKind::Regular => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::Special => 's',
    };
    let mut text = String::from(kind);
    for (at, letter) in "rwxrwxrwx".chars().enumerate() {
        let is_set = attributes.mode & (0o400 >> at) != 0;
        text.push(if is_set { letter } else { '-' });
    }
    text
}
