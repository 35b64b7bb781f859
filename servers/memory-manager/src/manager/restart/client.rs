//! A client as the model sees it, and what its requests are to be answered with.

use std::collections::BTreeMap;
use std::ops::Range;

use libipc::proto::memory::{MemoryError, Protection};

use super::super::fake::IMAGE_CONTENT;

/// Pages of the image that clients map.
pub(super) const IMAGE_PAGES: u64 = 3;

/// What a page of a client is to be.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) protection: Protection,
    pub(super) is_shared: bool,
    pub(super) content: u64,
    /// Whether it was touched, so that what it holds must be in memory.
    pub(super) is_there: bool,
}

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) process: usize,
    pub(super) space: u32,
    pub(super) pages: BTreeMap<u64, Page>,
    shared: Vec<Range<u64>>,
}

impl Client {
    pub(super) fn new(process: usize, space: u32) -> Self {
        Client {
            process,
            space,
            pages: BTreeMap::new(),
            shared: Vec::new(),
        }
    }

    fn is_free(&self, pages: &Range<u64>) -> bool {
        self.pages.range(pages.clone()).next().is_none()
    }

    fn cuts_shared(&self, pages: &Range<u64>) -> bool {
        self.shared.iter().any(|shared| {
            let overlaps = shared.start < pages.end && pages.start < shared.end;
            overlaps && !(pages.start <= shared.start && shared.end <= pages.end)
        })
    }

    pub(super) fn map(
        &mut self,
        pages: Range<u64>,
        protection: Protection,
    ) -> Result<(), MemoryError> {
        if !self.is_free(&pages) {
            return Err(MemoryError::Overlap);
        }
        let page = Page {
            protection,
            is_shared: false,
            content: 0,
            is_there: false,
        };
        self.pages.extend(pages.map(|at| (at, page.clone())));
        Ok(())
    }

    pub(super) fn map_image(
        &mut self,
        first: u64,
        protection: Protection,
    ) -> Result<(), MemoryError> {
        let pages = first..first + IMAGE_PAGES;
        if !self.is_free(&pages) {
            return Err(MemoryError::Overlap);
        }
        let is_shared = protection != Protection::ReadWrite;
        let page = |at| Page {
            protection,
            is_shared,
            content: IMAGE_CONTENT + at - first,
            is_there: false,
        };
        self.pages.extend(pages.clone().map(|at| (at, page(at))));
        if is_shared {
            self.shared.push(pages);
        }
        Ok(())
    }

    pub(super) fn unmap(&mut self, pages: &Range<u64>) -> Result<(), MemoryError> {
        if self.is_free(pages) {
            return Err(MemoryError::NotMapped);
        }
        if self.cuts_shared(pages) {
            return Err(MemoryError::SharedRegion);
        }
        self.pages.retain(|page, _| !pages.contains(page));
        self.shared.retain(|shared| !pages.contains(&shared.start));
        Ok(())
    }

    pub(super) fn protect(
        &mut self,
        pages: &Range<u64>,
        protection: Protection,
    ) -> Result<(), MemoryError> {
        let is_writable = protection == Protection::ReadWrite;
        let mut covered = self.pages.range(pages.clone());
        if covered.clone().count() as u64 != pages.end - pages.start {
            return Err(MemoryError::NotMapped);
        }
        if self.cuts_shared(pages) || is_writable && covered.any(|(_, page)| page.is_shared) {
            return Err(MemoryError::SharedRegion);
        }
        for (_, page) in self.pages.range_mut(pages.clone()) {
            page.protection = protection;
        }
        Ok(())
    }
}
