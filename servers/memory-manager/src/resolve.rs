//! What a page fault gets, decided without touching anything.
//!
//! Memory that is touched in sequence is brought several pages at a time: each fault that goes on
//! where the last run ended (upwards, or downwards as a stack does) brings twice as many pages as
//! the one before, up to [`MAX_WINDOW`]. Anything else brings one page.

use core::ops::Range;

use libipc::proto::memory::Protection;
use skink_abi::FaultMessage;

use crate::PAGE_BYTES;
use crate::regions::{Backing, Region};

/// Most pages brought by one fault (64 KiB).
pub const MAX_WINDOW: u64 = 16;

/// Bits of a page-fault error code (Intel SDM vol. 3A, 4.7).
const CODE_WRITE: u64 = 1 << 1;
const CODE_FETCH: u64 = 1 << 4;

/// What was tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// A read.
    Read,
    /// A write.
    Write,
    /// An instruction fetch.
    Execute,
}

impl Access {
    /// Reads a page-fault error code.
    pub fn of(fault: &FaultMessage) -> Access {
        if fault.code & CODE_FETCH != 0 {
            Access::Execute
        } else if fault.code & CODE_WRITE != 0 {
            Access::Write
        } else {
            Access::Read
        }
    }

    /// Returns whether a protection allows it.
    pub fn is_allowed(self, protection: Protection) -> bool {
        match self {
            Access::Read => true,
            Access::Write => protection == Protection::ReadWrite,
            Access::Execute => protection == Protection::ReadExecute,
        }
    }
}

/// Why a fault was refused; the process is ended for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The fault came from no known space.
    NoSpace,
    /// The address lies in no region.
    OutsideRegions,
    /// The region may not be used so.
    Protection,
    /// The image behind the page can no longer be read.
    ImageGone,
    /// No frame is left.
    OutOfMemory,
}

impl Refusal {
    /// Returns the end of a sentence for people.
    pub const fn text(self) -> &'static str {
        match self {
            Refusal::NoSpace => "the space is unknown",
            Refusal::OutsideRegions => "the address is not mapped",
            Refusal::Protection => "the region may not be used so",
            Refusal::ImageGone => "the image behind it cannot be read",
            Refusal::OutOfMemory => "out of memory",
        }
    }
}

/// What a fault gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Resolution {
    /// Nothing: the process is ended.
    Refuse(Refusal),
    /// These pages, zero-filled; the one touched is among them. Those that are in memory already
    /// limit the run.
    Zeros(Range<u64>),
    /// A private copy of `bytes` bytes of page `image_page` of the region's image.
    Copy {
        /// Page of the image.
        image_page: u64,
        /// Bytes that count; the rest is zero.
        bytes: u64,
    },
}

/// Decides what a fault in a region gets, when the page is not in memory.
pub fn resolve<I>(region: Option<&Region<I>>, fault: &FaultMessage) -> Resolution {
    let Some(region) = region else {
        return Resolution::Refuse(Refusal::OutsideRegions);
    };
    if !Access::of(fault).is_allowed(region.protection) {
        return Resolution::Refuse(Refusal::Protection);
    }
    let page = fault.address / PAGE_BYTES;
    match &region.backing {
        Backing::Anonymous => Resolution::Zeros(window(region, page)),
        // It was mapped at once and as a whole: what faults here the region does not allow.
        Backing::Shared => Resolution::Refuse(Refusal::Protection),
        Backing::Private(image) => match image.page(page - region.range.first()) {
            Some((image_page, bytes)) => Resolution::Copy { image_page, bytes },
            None => Resolution::Zeros(page..page + 1),
        },
    }
}

/// Returns the pages to bring for a touch of `page`: within the region, and `page` among them.
fn window<I>(region: &Region<I>, page: u64) -> Range<u64> {
    let last = &region.window.pages;
    let next_size = ((last.end - last.start) * 2).min(MAX_WINDOW);
    if last.is_empty() {
        page..page + 1
    } else if page == last.end {
        page..(page + next_size).min(region.range.end())
    } else if page + 1 == last.start {
        last.start
            .saturating_sub(next_size)
            .max(region.range.first())..page + 1
    } else {
        page..page + 1
    }
}

#[cfg(test)]
mod tests {
    use super::{Access, MAX_WINDOW, Refusal, Resolution, resolve};
    use crate::regions::{Backing, PageRange, PrivateImage, Region};
    use libipc::proto::memory::Protection;
    use skink_abi::FaultMessage;

    fn fault(page: u64, code: u64) -> FaultMessage {
        FaultMessage {
            address: page * 4096 + 5,
            instruction: 0,
            code,
        }
    }

    fn region(protection: Protection, backing: Backing<()>) -> Region<()> {
        let range = PageRange::from_client(100 * 4096, 50).unwrap();
        Region::new(range, protection, backing)
    }

    #[test]
    fn outside_and_against_protection_is_refused() {
        let refused = |refusal| Resolution::Refuse(refusal);
        assert_eq!(
            resolve::<()>(None, &fault(1, 4)),
            refused(Refusal::OutsideRegions)
        );
        let data = region(Protection::ReadWrite, Backing::Anonymous);
        assert_eq!(
            resolve(Some(&data), &fault(100, 0x14)),
            refused(Refusal::Protection)
        );
        let code = region(Protection::ReadExecute, Backing::Anonymous);
        assert_eq!(
            resolve(Some(&code), &fault(100, 6)),
            refused(Refusal::Protection)
        );
        let shared = region(Protection::Read, Backing::Shared);
        assert_eq!(
            resolve(Some(&shared), &fault(100, 4)),
            refused(Refusal::Protection)
        );
    }

    #[test]
    fn upward_touches_grow_the_window_to_its_limit_and_the_region_ends_it() {
        let mut region = region(Protection::ReadWrite, Backing::Anonymous);
        let mut sizes = Vec::new();
        let mut page = 100;
        while page < 150 {
            let Resolution::Zeros(pages) = resolve(Some(&region), &fault(page, 6)) else {
                panic!("refused")
            };
            assert_eq!(pages.start, page);
            sizes.push(pages.end - pages.start);
            page = pages.end;
            region.window.pages = pages;
        }
        assert_eq!(sizes, [1, 2, 4, 8, MAX_WINDOW, MAX_WINDOW, 3]);
    }

    #[test]
    fn downward_touches_grow_the_window_downwards() {
        let mut region = region(Protection::ReadWrite, Backing::Anonymous);
        region.window.pages = 149..150;
        assert_eq!(
            resolve(Some(&region), &fault(148, 6)),
            Resolution::Zeros(147..149)
        );
        assert_eq!(
            resolve(Some(&region), &fault(120, 6)),
            Resolution::Zeros(120..121)
        );
        region.window.pages = 101..117;
        assert_eq!(
            resolve(Some(&region), &fault(100, 6)),
            Resolution::Zeros(100..101)
        );
    }

    #[test]
    fn image_pages_are_copied_and_the_rest_is_zero() {
        let image = PrivateImage {
            memory: (),
            first_page: 3,
            file_bytes: 4097,
        };
        let region = region(Protection::ReadWrite, Backing::Private(image));
        let at = |page| resolve(Some(&region), &fault(page, 4));
        assert_eq!(
            at(100),
            Resolution::Copy {
                image_page: 3,
                bytes: 4096
            }
        );
        assert_eq!(
            at(101),
            Resolution::Copy {
                image_page: 4,
                bytes: 1
            }
        );
        assert_eq!(at(102), Resolution::Zeros(102..103));
    }

    #[test]
    fn an_instruction_fetch_is_no_read() {
        assert_eq!(Access::of(&fault(1, 0x15)), Access::Execute);
        assert_eq!(Access::of(&fault(1, 7)), Access::Write);
        assert_eq!(Access::of(&fault(1, 5)), Access::Read);
    }
}
