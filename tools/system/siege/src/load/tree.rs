//! Files in memory, worked on and compared with a model.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use libipc::Failure;
use libipc::files::{FileResult, Files};
use libipc::proto::vfs::{Access, Create, FsError, OpenOptions};
use libsys::time;
use siege::tree::{Operation, Outcome, Refusal, Tree, judge};
use skink_program::{Failed, Program};

use crate::worker::{self, Worker};

/// Works until it is stopped, then looks at everything once more and removes it.
pub(crate) fn run(program: &Program, mut worker: Worker<'_>) -> Result<(), Failed> {
    let files = worker::files(program)?;
    let mut tree = Tree::new(worker.random.number());
    let root = format!("/tmp/siege-tree-{}", time::now());
    files.make_dir(&root)?;
    worker.begin();
    while worker.goes_on() {
        let operation = tree.draw();
        work(&worker, &files, &root, &mut tree, &operation);
    }
    for path in tree.files() {
        work(
            &worker,
            &files,
            &root,
            &mut tree,
            &Operation::Read(path.clone()),
        );
        work(&worker, &files, &root, &mut tree, &Operation::Unlink(path));
    }
    let rest = Operation::List(String::new());
    if let Outcome::Names(folders) = tree.expect(&rest) {
        work(&worker, &files, &root, &mut tree, &rest);
        for folder in folders {
            work(
                &worker,
                &files,
                &root,
                &mut tree,
                &Operation::RemoveDir(folder),
            );
        }
    }
    worker.good("remove the root", files.remove_dir(&root));
    Ok(())
}

/// Carries out an operation and judges it.
fn work(worker: &Worker<'_>, files: &Files, root: &str, tree: &mut Tree, operation: &Operation) {
    let expected = tree.expect(operation);
    let seen = carry_out(files, root, operation).unwrap_or_else(|failure| match failure {
        Failure::Server(FsError::NotFound) => Outcome::Refused(Refusal::NotFound),
        Failure::Server(FsError::Exists) => Outcome::Refused(Refusal::Exists),
        Failure::Server(FsError::NotEmpty) => Outcome::Refused(Refusal::NotEmpty),
        failure => Outcome::Failed(failure.to_string()),
    });
    let verdict = judge(&expected, &seen);
    worker.count(verdict, || about(operation, &expected, &seen));
    // From then on what is really there counts, so that one fault is not many.
    if let (Operation::Read(path), false) = (operation, expected == seen) {
        let content = match seen {
            Outcome::Content(content) => Some(content),
            _ => None,
        };
        tree.accept(path, content);
    }
}

fn about(operation: &Operation, expected: &Outcome, seen: &Outcome) -> String {
    let short = |text: String| text.chars().take(80).collect::<String>();
    format!(
        "{}: {} in place of {}",
        short(format!("{operation:?}")),
        short(format!("{seen:?}")),
        short(format!("{expected:?}"))
    )
}

fn carry_out(files: &Files, root: &str, operation: &Operation) -> FileResult<Outcome> {
    let at = |path: &str| format!("{root}/{path}");
    let write = OpenOptions {
        access: Access::Write,
        ..OpenOptions::default()
    };
    let done = |()| Outcome::Done;
    Ok(match operation {
        Operation::Create(path, content) => {
            let new = OpenOptions {
                create: Create::New,
                ..write
            };
            let file = files.open(at(path), new)?;
            let end = file.write_at(0, content)?;
            file.close()?;
            Outcome::End(end)
        }
        Operation::Append(path, bytes) => {
            let append = OpenOptions {
                append: true,
                ..write
            };
            let mut file = files.open(at(path), append)?;
            // Nothing is no write: the end is asked for.
            let end = if bytes.is_empty() {
                file.size()?
            } else {
                file.write_all(bytes)?;
                file.position()
            };
            file.close()?;
            Outcome::End(end)
        }
        Operation::WriteAt(path, offset, bytes) => {
            let file = files.open(at(path), write)?;
            let end = file.write_at(*offset, bytes)?;
            file.close()?;
            Outcome::End(end)
        }
        Operation::SetSize(path, bytes) => {
            let file = files.open(at(path), write)?;
            file.set_size(*bytes)?;
            file.close()?;
            Outcome::Done
        }
        Operation::Rename(from, to) => files.rename(at(from), at(to)).map(done)?,
        Operation::Unlink(path) => files.remove_file(at(path)).map(done)?,
        Operation::MakeDir(path) => files.make_dir(at(path)).map(done)?,
        Operation::RemoveDir(path) => files.remove_dir(at(path)).map(done)?,
        Operation::Read(path) => Outcome::Content(files.read_to_vec(at(path))?),
        Operation::List(path) => {
            let entries = files.read_dir(at(path))?;
            let name = |name: Vec<u8>| String::from_utf8_lossy(&name).into_owned();
            let mut names: Vec<String> = entries.into_iter().map(|e| name(e.name)).collect();
            names.sort_unstable();
            Outcome::Names(names)
        }
        Operation::Size(path) => Outcome::Size(files.stat(at(path))?.bytes),
    })
}
