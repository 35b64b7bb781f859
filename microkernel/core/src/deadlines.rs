//! Deadlines of waiting threads: a pairing heap whose links live in the threads.
//!
//! Insert and look at the earliest are O(1), removal is O(log n) amortised (Fredman, Sedgewick,
//! Sleator, Tarjan: The pairing heap, Algorithmica 1, 1986). Merging is iterative: the kernel's
//! stack is small.

use crate::{Id, NONE};

/// Links of one thread in the heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeapNode {
    /// First child, or [`NONE`].
    pub child: Id,
    /// Next sibling, or [`NONE`].
    pub sibling: Id,
    /// Previous sibling, the parent for a first child, or [`NONE`] for the root.
    pub previous: Id,
}

impl HeapNode {
    /// Links of a thread that is in no heap.
    pub const UNLINKED: HeapNode = HeapNode {
        child: NONE,
        sibling: NONE,
        previous: NONE,
    };
}

/// Gives access to the heap links and deadlines of all threads.
pub trait HeapNodes {
    /// Returns the links of a thread.
    fn node(&self, id: Id) -> HeapNode;
    /// Sets the links of a thread.
    fn set_node(&self, id: Id, node: HeapNode);
    /// Returns the deadline of a thread; it must not change while the thread is in a heap.
    fn deadline(&self, id: Id) -> u64;
}

/// The deadlines of one CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deadlines {
    root: Id,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines::EMPTY
    }
}

impl Deadlines {
    /// No deadlines.
    pub const EMPTY: Deadlines = Deadlines { root: NONE };

    /// Returns the thread with the earliest deadline.
    pub const fn earliest(&self) -> Option<Id> {
        if self.root == NONE {
            None
        } else {
            Some(self.root)
        }
    }

    /// Adds a thread that is in no heap.
    pub fn insert(&mut self, nodes: &impl HeapNodes, id: Id) {
        nodes.set_node(id, HeapNode::UNLINKED);
        self.root = meld(nodes, self.root, id);
    }

    /// Takes out a thread, which must be in this heap.
    pub fn remove(&mut self, nodes: &impl HeapNodes, id: Id) {
        let node = nodes.node(id);
        if id != self.root {
            // Cut the subtree out of its family.
            let previous = nodes.node(node.previous);
            if previous.child == id {
                nodes.set_node(
                    node.previous,
                    HeapNode {
                        child: node.sibling,
                        ..previous
                    },
                );
            } else {
                nodes.set_node(
                    node.previous,
                    HeapNode {
                        sibling: node.sibling,
                        ..previous
                    },
                );
            }
            if node.sibling != NONE {
                let sibling = nodes.node(node.sibling);
                nodes.set_node(
                    node.sibling,
                    HeapNode {
                        previous: node.previous,
                        ..sibling
                    },
                );
            }
        }
        let children = merge_pairs(nodes, node.child);
        self.root = if id == self.root {
            children
        } else {
            meld(nodes, self.root, children)
        };
        nodes.set_node(id, HeapNode::UNLINKED);
    }

    /// Takes out the thread with the earliest deadline if that is not after `now`.
    pub fn pop_due(&mut self, nodes: &impl HeapNodes, now: u64) -> Option<Id> {
        let id = self.earliest()?;
        if nodes.deadline(id) > now {
            return None;
        }
        self.remove(nodes, id);
        Some(id)
    }
}

/// Makes one tree of two whose roots have neither siblings nor parents.
fn meld(nodes: &impl HeapNodes, left: Id, right: Id) -> Id {
    if left == NONE {
        return right;
    }
    if right == NONE {
        return left;
    }
    let (parent, child) = if nodes.deadline(right) < nodes.deadline(left) {
        (right, left)
    } else {
        (left, right)
    };
    let first = nodes.node(parent).child;
    nodes.set_node(
        child,
        HeapNode {
            sibling: first,
            previous: parent,
            ..nodes.node(child)
        },
    );
    if first != NONE {
        nodes.set_node(
            first,
            HeapNode {
                previous: child,
                ..nodes.node(first)
            },
        );
    }
    nodes.set_node(
        parent,
        HeapNode {
            child,
            ..nodes.node(parent)
        },
    );
    parent
}

/// Melds a list of siblings in pairs from the left, then the pairs from the right.
fn merge_pairs(nodes: &impl HeapNodes, first: Id) -> Id {
    let mut pairs = NONE;
    let mut next = first;
    while next != NONE {
        let left = next;
        let right = nodes.node(left).sibling;
        next = if right == NONE {
            NONE
        } else {
            nodes.node(right).sibling
        };
        detach(nodes, left);
        if right != NONE {
            detach(nodes, right);
        }
        let pair = meld(nodes, left, right);
        // The pairs wait in a stack that is linked by `sibling`.
        nodes.set_node(
            pair,
            HeapNode {
                sibling: pairs,
                ..nodes.node(pair)
            },
        );
        pairs = pair;
    }
    let mut root = NONE;
    while pairs != NONE {
        let pair = pairs;
        pairs = nodes.node(pair).sibling;
        detach(nodes, pair);
        root = meld(nodes, root, pair);
    }
    root
}

fn detach(nodes: &impl HeapNodes, id: Id) {
    nodes.set_node(
        id,
        HeapNode {
            sibling: NONE,
            previous: NONE,
            ..nodes.node(id)
        },
    );
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{Deadlines, HeapNode, HeapNodes};
    use crate::Id;

    struct Arena(RefCell<Vec<(HeapNode, u64)>>);

    impl HeapNodes for Arena {
        fn node(&self, id: Id) -> HeapNode {
            self.0.borrow()[id as usize].0
        }

        fn set_node(&self, id: Id, node: HeapNode) {
            self.0.borrow_mut()[id as usize].0 = node;
        }

        fn deadline(&self, id: Id) -> u64 {
            self.0.borrow()[id as usize].1
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_set(steps in prop::collection::vec((0_u8..3, 0_u32..24, 0_u64..50), 0..300)) {
            let arena = Arena(RefCell::new(vec![(HeapNode::UNLINKED, 0); 24]));
            let mut heap = Deadlines::EMPTY;
            let mut model: BTreeSet<(u64, Id)> = BTreeSet::new();
            for (step, id, deadline) in steps {
                let known = model.iter().find(|entry| entry.1 == id).copied();
                match (step, known) {
                    (0, None) => {
                        arena.0.borrow_mut()[id as usize].1 = deadline;
                        heap.insert(&arena, id);
                        model.insert((deadline, id));
                    }
                    (1, Some(entry)) => {
                        heap.remove(&arena, id);
                        model.remove(&entry);
                    }
                    (2, _) => {
                        let due = heap.pop_due(&arena, deadline);
                        match model.first().copied() {
                            Some((earliest, _)) if earliest <= deadline => {
                                let popped = due.expect("something is due");
                                prop_assert_eq!(arena.deadline(popped), earliest);
                                prop_assert!(model.remove(&(earliest, popped)));
                            }
                            _ => prop_assert_eq!(due, None),
                        }
                    }
                    _ => {}
                }
                let earliest = heap.earliest().map(|id| arena.deadline(id));
                prop_assert_eq!(earliest, model.first().map(|entry| entry.0));
            }
        }
    }
}
