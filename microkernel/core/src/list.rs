//! Doubly linked lists whose links live in the listed objects.
//!
//! An object has one pair of links per kind of list it can be in and is in at most one list by
//! each pair. Insert and remove are O(1).

use crate::{Id, NONE};

/// Neighbours of an object in its list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Links {
    /// The one before, or [`NONE`].
    pub previous: Id,
    /// The one behind, or [`NONE`].
    pub next: Id,
}

impl Links {
    /// Links of an object that is in no list.
    pub const UNLINKED: Links = Links {
        previous: NONE,
        next: NONE,
    };
}

/// Gives access to the links of all objects of a kind.
pub trait Nodes {
    /// Returns the links of an object.
    fn links(&self, id: Id) -> Links;
    /// Sets the links of an object.
    fn set_links(&self, id: Id, links: Links);

    /// Returns the one behind an object.
    #[inline(always)]
    fn next(&self, id: Id) -> Id {
        self.links(id).next
    }

    /// Sets the one behind an object, for a [`Stack`], which has no other link.
    #[inline(always)]
    fn set_next(&self, id: Id, next: Id) {
        self.set_links(
            id,
            Links {
                previous: NONE,
                next,
            },
        );
    }
}

/// A list; the objects in it are known by their ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct List {
    first: Id,
    last: Id,
}

impl Default for List {
    fn default() -> Self {
        List::EMPTY
    }
}

impl List {
    /// Offset of the id of the first object, for code in assembly: [`NONE`] if there is none.
    pub const FIRST: usize = core::mem::offset_of!(List, first);

    /// A list with nothing in it.
    pub const EMPTY: List = List {
        first: NONE,
        last: NONE,
    };

    /// Returns whether nothing is in the list.
    pub const fn is_empty(&self) -> bool {
        self.first == NONE
    }

    /// Returns the first object, or `None`.
    pub const fn first(&self) -> Option<Id> {
        if self.first == NONE {
            None
        } else {
            Some(self.first)
        }
    }

    /// Appends an object that is in no list.
    #[inline]
    pub fn push_back(&mut self, nodes: &impl Nodes, id: Id) {
        let previous = self.last;
        nodes.set_links(
            id,
            Links {
                previous,
                next: NONE,
            },
        );
        self.last = id;
        if previous == NONE {
            self.first = id;
        } else {
            nodes.set_links(
                previous,
                Links {
                    next: id,
                    ..nodes.links(previous)
                },
            );
        }
    }

    /// Puts an object that is in no list at the front.
    pub fn push_front(&mut self, nodes: &impl Nodes, id: Id) {
        self.insert_before(nodes, self.first, id);
    }

    /// Puts an object that is in no list before `next`, or at the end if `next` is [`NONE`].
    pub fn insert_before(&mut self, nodes: &impl Nodes, next: Id, id: Id) {
        let previous = if next == NONE {
            self.last
        } else {
            nodes.links(next).previous
        };
        nodes.set_links(id, Links { previous, next });
        if previous == NONE {
            self.first = id;
        } else {
            nodes.set_links(
                previous,
                Links {
                    next: id,
                    ..nodes.links(previous)
                },
            );
        }
        if next == NONE {
            self.last = id;
        } else {
            nodes.set_links(
                next,
                Links {
                    previous: id,
                    ..nodes.links(next)
                },
            );
        }
    }

    /// Takes the first object out.
    #[inline]
    pub fn pop_front(&mut self, nodes: &impl Nodes) -> Option<Id> {
        let id = self.first()?;
        let next = nodes.links(id).next;
        self.first = next;
        if next == NONE {
            self.last = NONE;
        } else {
            nodes.set_links(
                next,
                Links {
                    previous: NONE,
                    ..nodes.links(next)
                },
            );
        }
        Some(id)
    }

    /// Takes out an object, which must be in this list.
    pub fn remove(&mut self, nodes: &impl Nodes, id: Id) {
        let Links { previous, next } = nodes.links(id);
        if previous == NONE {
            self.first = next;
        } else {
            nodes.set_links(
                previous,
                Links {
                    next,
                    ..nodes.links(previous)
                },
            );
        }
        if next == NONE {
            self.last = previous;
        } else {
            nodes.set_links(
                next,
                Links {
                    previous,
                    ..nodes.links(next)
                },
            );
        }
        nodes.set_links(id, Links::UNLINKED);
    }

    /// Goes over the ids from first to last. The list must not change meanwhile.
    pub fn iter<'a, N: Nodes>(&self, nodes: &'a N) -> impl Iterator<Item = Id> + use<'a, N> {
        core::iter::successors(self.first(), move |&id| {
            let next = nodes.links(id).next;
            (next != NONE).then_some(next)
        })
    }
}

/// A stack of objects, for where it does not matter which one comes next: it changes two words
/// where a [`List`] changes four or more. Taking out one that is not on top is O(n).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stack {
    top: Id,
}

impl Default for Stack {
    fn default() -> Self {
        Stack::EMPTY
    }
}

impl Stack {
    /// Offset of the id of the object on top, for code in assembly: [`NONE`] if there is none.
    pub const TOP: usize = core::mem::offset_of!(Stack, top);

    /// A stack with nothing on it.
    pub const EMPTY: Stack = Stack { top: NONE };

    /// Returns the object on top, or `None`.
    #[inline(always)]
    pub const fn top(&self) -> Option<Id> {
        if self.top == NONE {
            None
        } else {
            Some(self.top)
        }
    }

    /// Puts an object on top that is in no list or stack by these links.
    #[inline(always)]
    pub fn push(&mut self, nodes: &impl Nodes, id: Id) {
        nodes.set_next(id, self.top);
        self.top = id;
    }

    /// Takes the object on top.
    #[inline(always)]
    pub fn pop(&mut self, nodes: &impl Nodes) -> Option<Id> {
        let id = self.top()?;
        self.top = nodes.next(id);
        Some(id)
    }

    /// Takes out an object, which must be on this stack.
    pub fn remove(&mut self, nodes: &impl Nodes, id: Id) {
        let next = nodes.next(id);
        if self.top == id {
            self.top = next;
            return;
        }
        let mut above = self.top;
        while above != NONE {
            let below = nodes.next(above);
            if below == id {
                nodes.set_next(above, next);
                return;
            }
            above = below;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::{Links, List, Nodes, Stack};
    use crate::Id;

    /// Links of a few objects.
    pub(crate) struct Arena(RefCell<Vec<Links>>);

    impl Arena {
        pub(crate) fn new(size: usize) -> Self {
            Arena(RefCell::new(vec![Links::UNLINKED; size]))
        }
    }

    impl Nodes for Arena {
        fn links(&self, id: Id) -> Links {
            self.0.borrow()[id as usize]
        }

        fn set_links(&self, id: Id, links: Links) {
            self.0.borrow_mut()[id as usize] = links;
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_deque(steps in prop::collection::vec((0_u8..4, 0_u32..16), 0..200)) {
            let arena = Arena::new(16);
            let mut list = List::EMPTY;
            let mut model = VecDeque::new();
            for (step, id) in steps {
                let listed = model.contains(&id);
                match step {
                    0 if !listed => { list.push_back(&arena, id); model.push_back(id); }
                    1 if !listed => { list.push_front(&arena, id); model.push_front(id); }
                    2 if listed => { list.remove(&arena, id); model.retain(|&other| other != id); }
                    3 => prop_assert_eq!(list.pop_front(&arena), model.pop_front()),
                    _ => {}
                }
                prop_assert_eq!(list.iter(&arena).collect::<Vec<_>>(), Vec::from(model.clone()));
                prop_assert_eq!(list.is_empty(), model.is_empty());
            }
        }

        #[test]
        fn a_stack_behaves_like_a_vector(steps in prop::collection::vec((0_u8..3, 0_u32..16), 0..200)) {
            let arena = Arena::new(16);
            let mut stack = Stack::EMPTY;
            let mut model = Vec::new();
            for (step, id) in steps {
                let is_on_it = model.contains(&id);
                match step {
                    0 if !is_on_it => { stack.push(&arena, id); model.push(id); }
                    1 if is_on_it => { stack.remove(&arena, id); model.retain(|&other| other != id); }
                    2 => prop_assert_eq!(stack.pop(&arena), model.pop()),
                    _ => {}
                }
                prop_assert_eq!(stack.top(), model.last().copied());
            }
        }
    }
}
