//! Receipts: what a completed request really moved, in one word.
//!
//! A completion that only says "done" hides a transfer of other sectors, or to another place. So
//! the driver answers with a receipt of what it told the *device*, the block server makes of that
//! the receipts of its clients' requests, and each side compares with what it asked for.

use core::iter::Sum;
use core::ops::{Add, Sub};

use crate::proto::block::{Operation, Request, SECTOR_BYTES};
use crate::typed_ring::Word;

/// The bits of a receipt: a result that is one is not negative.
const MASK: u64 = (1 << 62) - 1;

/// Factors without a pattern, so that nothing that differs a little has the same sum: those of
/// `SplitMix64` and `MurmurHash3`.
const READ: u64 = 0x9e37_79b9_7f4a_7c15;
const WRITE: u64 = 0xbf58_476d_1ce4_e5b9;
const FLUSH: u64 = 0x94d0_49bb_1331_11eb;
const BUFFER: u64 = 0xff51_afd7_ed55_8ccd;
const SECTOR: u64 = 0xc4ce_b9fe_1a85_ec53;
const OFFSET: u64 = 0x87c3_7b91_1142_53d5;

/// What was transferred: a digest of direction, buffer, place in the buffer, and sectors.
///
/// It is a sum over the sectors, modulo 2⁶². So the receipt of a request is the sum of those of its
/// parts, however it is split, and nothing transferred at all is the number 0. It finds mistakes; who
/// wants to deceive can work out any of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Receipt(u64);

impl Receipt {
    /// Returns the receipt for all that a request asks for.
    pub fn of(request: &Request) -> Receipt {
        let kind = match request.operation {
            Operation::Read => READ,
            Operation::Write => WRITE,
            Operation::Flush => return Receipt::reduce(FLUSH),
        };
        let count = request.sectors;
        let first = kind
            .wrapping_add(BUFFER.wrapping_mul(request.buffer.0.into()))
            .wrapping_add(SECTOR.wrapping_mul(request.sector))
            .wrapping_add(OFFSET.wrapping_mul(request.offset));
        // Each sector is one further on than the one before: 0 + 1 + … + (count - 1) of such steps.
        let step = SECTOR.wrapping_add(OFFSET.wrapping_mul(SECTOR_BYTES));
        let steps = if count.is_multiple_of(2) {
            (count / 2).wrapping_mul(count.wrapping_sub(1))
        } else {
            count.wrapping_mul(count / 2)
        };
        let sum = count
            .wrapping_mul(first)
            .wrapping_add(steps.wrapping_mul(step));
        Receipt::reduce(sum)
    }

    /// Takes a sum modulo 2⁶².
    const fn reduce(sum: u64) -> Receipt {
        Receipt(sum & MASK)
    }
}

impl Add for Receipt {
    type Output = Receipt;

    fn add(self, other: Receipt) -> Receipt {
        Receipt::reduce(self.0.wrapping_add(other.0))
    }
}

impl Sub for Receipt {
    type Output = Receipt;

    fn sub(self, other: Receipt) -> Receipt {
        Receipt::reduce(self.0.wrapping_sub(other.0))
    }
}

impl Sum for Receipt {
    fn sum<I: Iterator<Item = Receipt>>(parts: I) -> Receipt {
        parts.fold(Receipt::default(), Add::add)
    }
}

impl Word for Receipt {
    fn to_word(self) -> u64 {
        self.0
    }

    fn from_word(word: u64) -> Option<Self> {
        (word & !MASK == 0).then_some(Receipt(word))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Receipt;
    use crate::proto::block::{BufferId, IoError, Operation, Request};
    use crate::typed_ring::{Word as _, outcome_of, result_word};

    fn any_transfer() -> impl Strategy<Value = Request> {
        let operation = prop_oneof![Just(Operation::Read), Just(Operation::Write)];
        // Small numbers are what mistakes mix up, large ones overflow.
        let number = prop_oneof![0_u64..64, any::<u64>()];
        let sectors = prop_oneof![1_u64..64, Just(2048), any::<u64>()];
        (operation, any::<u32>(), number.clone(), number, sectors).prop_map(
            |(operation, buffer, offset, sector, sectors)| Request {
                operation,
                buffer: BufferId(buffer),
                offset: offset.wrapping_mul(512),
                sector,
                sectors,
            },
        )
    }

    proptest! {
        #[test]
        fn the_parts_of_a_request_add_up_to_it(
            request in any_transfer(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        ) {
            let length = usize::try_from(request.sectors).unwrap();
            let mut cuts: Vec<u64> = cuts.iter().map(|cut| cut.index(length) as u64).collect();
            cuts.extend([0, request.sectors]);
            cuts.sort_unstable();
            let parts = cuts.windows(2).map(|ends| request.part(ends[0], ends[1] - ends[0]));
            let parts: Vec<Receipt> = parts.map(|part| Receipt::of(&part)).collect();
            let whole = Receipt::of(&request);
            prop_assert_eq!(parts.iter().copied().sum::<Receipt>(), whole);
            prop_assert_eq!(parts.iter().fold(whole, |left, part| left - *part), Receipt::default());
        }

        #[test]
        fn receipts_travel_through_a_ring(request in any_transfer()) {
            let receipt = Receipt::of(&request);
            let word = result_word::<_, IoError>(Ok(receipt));
            prop_assert!(word >= 0);
            prop_assert_eq!(outcome_of::<Receipt, IoError>(word), Ok(receipt));
        }

        #[test]
        fn what_differs_has_another_receipt(
            request in any_transfer(),
            sectors in 1_u64..2049,
            bit in 0_u32..32,
            (here, there) in (0_u64..1 << 20, 0_u64..1 << 20),
        ) {
            let request = Request { sectors, sector: here, offset: there * 512, ..request };
            let bits = 1_u64 << bit;
            let (to_read, to_write) = (Operation::Read, Operation::Write);
            let operation = if request.operation == to_read { to_write } else { to_read };
            let others = [
                Request { operation, ..request },
                Request { buffer: BufferId(request.buffer.0 ^ 1 << bit), ..request },
                Request { offset: request.offset ^ bits << 9, ..request },
                Request { sector: request.sector ^ bits, ..request },
                Request { sectors: request.sectors ^ bits, ..request },
                // Later by as much in the buffer as on the device.
                request.part(bits, sectors),
                Request { sector: request.offset / 512, offset: request.sector * 512, ..request },
                Request::flush(),
            ];
            for other in others.into_iter().filter(|other| *other != request) {
                prop_assert_ne!(Receipt::of(&other), Receipt::of(&request), "{:?}", other);
            }
        }
    }

    #[test]
    fn receipts_are_part_of_the_wire() {
        let request = |operation, buffer, offset, sector, sectors| Request {
            operation,
            buffer: BufferId(buffer),
            offset,
            sector,
            sectors,
        };
        // Summed up sector by sector with another program.
        for (request, word) in [
            (
                request(Operation::Read, 3, 4096, 100, 8),
                0x2ed6_204f_afc2_8854,
            ),
            (request(Operation::Write, 1, 0, 7, 1), 0x2051_0d37_c3e3_e8cb),
            (Request::flush(), 0x14d0_49bb_1331_11eb),
        ] {
            assert_eq!(Receipt::of(&request).to_word(), word);
        }
    }

    #[test]
    fn a_flush_has_a_receipt_and_words_with_more_bits_are_none() {
        let flush = Receipt::of(&Request::flush());
        assert_ne!(flush, Receipt::default());
        assert_eq!(Receipt::from_word(flush.to_word()), Some(flush));
        for word in [1 << 62, 1 << 63, u64::MAX] {
            assert_eq!(Receipt::from_word(word), None);
        }
    }
}
