//! Whose instructions they are.
//!
//! The log has addresses but not address spaces, and all programs are linked for the same
//! addresses. What a program executes between two visits of the kernel is a path through its code,
//! which hardly any other program has too.

use std::collections::HashMap;

use super::trace::{Ring, Step};

/// Number of the kernel; programs have those from 1.
pub(crate) const KERNEL: usize = 0;

/// Returns for each step the number of the image that it is from, if there is one. `explains` says
/// whether so many steps can be a path through an image; `programs` are asked in their order.
pub(crate) fn attribute(
    steps: &[Step],
    programs: impl Iterator<Item = usize> + Clone,
    explains: impl Fn(usize, &[Step]) -> bool,
) -> Vec<Option<usize>> {
    let mut owners = Vec::with_capacity(steps.len());
    let mut known: HashMap<&[Step], Option<usize>> = HashMap::new();
    for path in steps.chunk_by(|a, b| a.ring == b.ring) {
        let owner = match path.first().map(|step| step.ring) {
            Some(Ring::User) => *known
                .entry(path)
                .or_insert_with(|| programs.clone().find(|program| explains(*program, path))),
            _ => Some(KERNEL),
        };
        owners.extend(path.iter().map(|_| owner));
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(path: &[(u64, Ring)]) -> Vec<Step> {
        let step = |&(pc, ring)| Step { pc, ring };
        path.iter().map(step).collect()
    }

    #[test]
    fn a_path_belongs_to_the_first_program_that_has_it() {
        let (user, kernel) = (Ring::User, Ring::Kernel);
        let steps = steps(&[
            (1, user),
            (2, user),
            (100, kernel),
            (1, user),
            (3, user),
            (100, kernel),
            (1, user),
            (9, user),
        ]);
        // Program 1 has the path 1, 2; program 2 every path through 1, 2 and 3.
        let explains = |program, path: &[Step]| {
            let highest = path.iter().map(|step| step.pc).max().unwrap();
            highest <= if program == 1 { 2 } else { 3 }
        };
        let owners = attribute(&steps, 1..3, explains);
        let (one, two, kernel) = (Some(1), Some(2), Some(KERNEL));
        assert_eq!(owners, [one, one, kernel, two, two, kernel, None, None]);
    }

    #[test]
    fn nothing_is_nobodys() {
        assert_eq!(attribute(&[], 1..2, |_, _| true), []);
    }
}
