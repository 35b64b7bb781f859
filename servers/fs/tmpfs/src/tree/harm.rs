//! What damage does to a tree.

use super::Tree;

impl Tree {
    /// Loses a node as damage does.
    pub(crate) fn lose_node(&mut self, inode: u64) {
        self.nodes.remove(&inode);
    }

    /// Puts another block in a place of a file as damage does.
    pub(crate) fn move_block(&mut self, inode: u64, index: u32, block: u32) {
        self.change_file(inode, None, |_, blocks| blocks.insert(index, block));
    }

    /// Loses a block of a file.
    pub(crate) fn lose_block(&mut self, inode: u64, index: u32) {
        self.change_file(inode, None, |_, blocks| blocks.remove(&index));
    }

    /// Makes each of two names lead to the node of the other one.
    pub(crate) fn exchange_names(&mut self, directory: u64, name: &[u8], other: &[u8]) {
        let entries = self.entries_mut(directory).unwrap();
        let (first, second) = (entries[name], entries[other]);
        entries.insert(name.to_vec(), second);
        entries.insert(other.to_vec(), first);
    }

    /// Makes a name another one.
    pub(crate) fn change_name(&mut self, directory: u64, name: &[u8], other: &[u8]) {
        let entries = self.entries_mut(directory).unwrap();
        let inode = entries.remove(name).unwrap();
        entries.insert(other.to_vec(), inode);
    }

    /// Puts two nodes under each other's number.
    pub(crate) fn exchange_nodes(&mut self, inode: u64, other: u64) {
        let first = self.nodes.remove(&inode).unwrap();
        let second = self.nodes.insert(other, first).unwrap();
        self.nodes.insert(inode, second);
    }
}
