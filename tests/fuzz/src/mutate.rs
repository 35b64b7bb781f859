//! Inputs that are nearly right.

use libsys::abi::MAX_MESSAGE_BYTES;

/// Numbers that look random and are the same for each seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Returns a number below a limit that is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        // The ends of ranges are more interesting than the middle.
        const ENDS: [u8; 8] = [0, 1, 2, 0x7f, 0x80, 0x81, 0xfe, 0xff];
        let byte = self.number() as u8;
        if self.below(2) == 0 {
            ENDS[self.below(ENDS.len())]
        } else {
            byte
        }
    }
}

/// Makes inputs of others.
#[derive(Debug)]
pub struct Mutator {
    corpus: Vec<Vec<u8>>,
    random: Random,
}

impl Mutator {
    /// Starts with inputs that are right.
    #[must_use]
    pub fn new(corpus: Vec<Vec<u8>>, seed: u64) -> Mutator {
        Mutator {
            corpus,
            random: Random(seed),
        }
    }

    /// Makes the next input: mostly one of the corpus with some changes, sometimes any bytes.
    pub fn input(&mut self) -> Vec<u8> {
        if self.corpus.is_empty() || self.random.below(8) == 0 {
            let length = self.random.below(64);
            return (0..length).map(|_| self.random.byte()).collect();
        }
        let mut input = self.one().clone();
        for _ in 0..1 + self.random.below(4) {
            self.change(&mut input);
        }
        input.truncate(MAX_MESSAGE_BYTES + 3);
        input
    }

    fn one(&mut self) -> &Vec<u8> {
        let at = self.random.below(self.corpus.len());
        &self.corpus[at]
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.random.below(input.len() + 1);
        let byte = self.random.byte();
        match self.random.below(8) {
            0 => input.insert(at, byte),
            1 => input.truncate(at),
            2 => {
                let other = self.one().clone();
                input.truncate(at);
                let from = self.random.below(other.len() + 1);
                input.extend(&other[from..]);
            }
            3 => input.resize(at + self.random.below(MAX_MESSAGE_BYTES), byte),
            4 if at < input.len() => drop(input.remove(at)),
            5 if at < input.len() => input[at] ^= 1 << (byte & 7),
            _ if at < input.len() => input[at] = byte,
            _ => input.push(byte),
        }
    }
}
