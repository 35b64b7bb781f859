//! Which services are struck, and when: chance that a seed repeats.
//!
//! Services are drawn from shuffled decks, so that all are struck equally often: one deck of
//! services for each kind of strike, and one of ordered pairs.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use chaos::Random;

use crate::Greed;

/// A kind of strike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A service is killed.
    Single,
    /// Two services are killed, one right after the other.
    Pair,
    /// A service is killed, and again as soon as its next instance runs: while it recovers.
    Again,
    /// A service is made to turn for ever where it is.
    Hang,
    /// A bit of a service's memory is turned over.
    Flip,
    /// A service is swapped to its other version, or back.
    Swap,
    /// A service is swapped to a version that cannot take over.
    Broken,
    /// A fault of a list is put into a service, and nobody is told.
    Silent,
    /// Two services are killed, or one twice: every pair in its turn.
    Matrix,
    /// A service is killed, and `init` while that one recovers.
    Init,
    /// A minute without any fault.
    Quiet,
    /// A service is slowed down for a while, and answers late.
    Slow,
    /// A service ends when it would answer: the answer never arrives.
    Drop,
    /// An answer of a service is lost, and the service lives: it gets once more what it has answered.
    Duplicate,
    /// A program takes all that it can get of something.
    Exhaust,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 15] = [
        Kind::Single,
        Kind::Pair,
        Kind::Again,
        Kind::Hang,
        Kind::Flip,
        Kind::Swap,
        Kind::Broken,
        Kind::Silent,
        Kind::Matrix,
        Kind::Init,
        Kind::Quiet,
        Kind::Slow,
        Kind::Drop,
        Kind::Duplicate,
        Kind::Exhaust,
    ];

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Single => "single",
            Kind::Pair => "pair",
            Kind::Again => "again",
            Kind::Hang => "hang",
            Kind::Flip => "flip",
            Kind::Swap => "swap",
            Kind::Broken => "broken",
            Kind::Silent => "silent",
            Kind::Matrix => "matrix",
            Kind::Init => "init",
            Kind::Quiet => "quiet",
            Kind::Slow => "slow",
            Kind::Drop => "drop",
            Kind::Duplicate => "duplicate",
            Kind::Exhaust => "exhaust",
        }
    }

    /// Returns the kind of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns how many kills, or other faults, swaps or minutes, it counts for.
    pub const fn kills(self) -> u32 {
        match self {
            Kind::Pair | Kind::Again | Kind::Matrix | Kind::Init => 2,
            _ => 1,
        }
    }

    /// Returns whether it needs two services.
    const fn is_of_two(self) -> bool {
        matches!(self, Kind::Pair | Kind::Init)
    }

    /// Returns whether it strikes at a version, not at whatever runs of a service.
    pub const fn is_of_version(self) -> bool {
        matches!(self, Kind::Swap | Kind::Broken)
    }

    /// Returns whether it strikes at whatever runs of a service, chosen here.
    const fn is_of_service(self) -> bool {
        !self.is_of_version() && !matches!(self, Kind::Silent | Kind::Quiet | Kind::Exhaust)
    }
}

/// How many things there are to strike at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Targets {
    /// Services.
    pub services: usize,
    /// Services that have another version.
    pub swaps: usize,
    /// Versions that cannot take over.
    pub broken: usize,
    /// Faults in the list.
    pub faults: usize,
    /// Which service is `init`, if it is among them.
    pub init: Option<usize>,
}

impl Targets {
    /// Returns how many there are for strikes of a kind.
    pub const fn of(&self, kind: Kind) -> usize {
        match kind {
            Kind::Swap => self.swaps,
            Kind::Broken => self.broken,
            Kind::Silent => self.faults,
            Kind::Quiet => 1,
            Kind::Exhaust => Greed::ALL.len(),
            Kind::Init if self.init.is_none() => 0,
            _ => self.services,
        }
    }
}

/// What is done next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Strike {
    /// In which way.
    pub kind: Kind,
    /// The service that is killed first; for [`Kind::Swap`], [`Kind::Broken`], [`Kind::Silent`] and
    /// [`Kind::Exhaust`] the place of the version, fault or greed among those of its kind.
    pub first: usize,
    /// The service that is killed second; the same one for all but [`Kind::Pair`], [`Kind::Matrix`]
    /// and [`Kind::Init`].
    pub second: usize,
    /// How long to wait before, ns.
    pub wait_ns: u64,
    /// How long the next instance runs before it is killed, ns, for one that is killed twice; how
    /// long after the first kill `init` is killed, for [`Kind::Init`].
    pub delay_ns: u64,
}

/// Longest time that an instance runs before it is killed again, ns: somewhat longer than any
/// service takes to serve.
const MAX_DELAY_NS: u64 = 2_000_000;
/// Of eight strikes this many are single ones, when there are other kinds too.
const SINGLES_OF_EIGHT: u64 = 4;

/// The strikes to come.
#[derive(Clone, Debug)]
pub struct Strikes {
    random: Random,
    kinds: Vec<Kind>,
    wait_ns: RangeInclusive<u64>,
    kills_left: u32,
    services: Vec<usize>,
    targets: Targets,
    decks: [Vec<(usize, usize)>; Kind::ALL.len()],
}

impl Iterator for Strikes {
    type Item = Strike;

    fn next(&mut self) -> Option<Strike> {
        if self.kills_left == 0 || self.services.is_empty() {
            return None;
        }
        let kind = self.draw_kind();
        let (first, second) = self.draw(kind)?;
        let (low, high) = (*self.wait_ns.start(), *self.wait_ns.end());
        let wait_ns = low
            + self
                .random
                .below(high.saturating_sub(low).saturating_add(1));
        let delay_ns = self.random.below(MAX_DELAY_NS);
        self.kills_left = self.kills_left.saturating_sub(kind.kills());
        Some(Strike {
            kind,
            first,
            second,
            wait_ns,
            delay_ns,
        })
    }
}

impl Strikes {
    /// Makes the strikes of a seed against these targets, until there were `kills` kills.
    /// Without any kind that has targets, pairs having them from two services on, there are
    /// single ones.
    pub fn new(
        seed: u64,
        targets: Targets,
        kills: u32,
        kinds: &[Kind],
        wait_ns: RangeInclusive<u64>,
    ) -> Self {
        let mut kinds = kinds.to_vec();
        kinds.retain(|kind| targets.of(*kind) > usize::from(kind.is_of_two()));
        if kinds.is_empty() {
            kinds.push(Kind::Single);
        }
        Strikes {
            random: Random::new(seed),
            kinds,
            wait_ns,
            kills_left: kills,
            services: (0..targets.services).collect(),
            targets,
            decks: [const { Vec::new() }; Kind::ALL.len()],
        }
    }

    /// Leaves out the first strikes, until there are so many kills fewer.
    pub fn skip_kills(&mut self, kills: u32) {
        let end = self.kills_left.saturating_sub(kills);
        while self.kills_left > end && self.next().is_some() {}
    }

    /// Returns how many kills there are still to be.
    pub const fn left(&self) -> u32 {
        self.kills_left
    }

    /// Leaves a service out from now on.
    pub fn give_up(&mut self, service: usize) {
        self.services.retain(|known| *known != service);
        let of_services = Kind::ALL.iter().zip(&mut self.decks);
        for (_, deck) in of_services.filter(|(kind, _)| kind.is_of_service()) {
            deck.retain(|(first, second)| *first != service && *second != service);
        }
    }

    fn draw_kind(&mut self) -> Kind {
        let (left, services) = (self.kills_left, self.services.len());
        let can_be = |kind: &Kind| kind.kills() <= left && (!kind.is_of_two() || services > 1);
        let possible = self.kinds.iter().copied().filter(can_be);
        let others: Vec<Kind> = possible.filter(|kind| *kind != Kind::Single).collect();
        let has_single = self.kinds.contains(&Kind::Single);
        // The number is drawn in any case, so that the row of numbers is the same.
        let place = self.random.number() >> 16;
        if others.is_empty() || has_single && place % 8 < SINGLES_OF_EIGHT {
            return Kind::Single;
        }
        others[(place / 8) as usize % others.len()]
    }

    /// Draws from the deck of a kind, which is made anew when it is used up.
    fn draw(&mut self, kind: Kind) -> Option<(usize, usize)> {
        let number = kind as usize;
        if self.decks[number].is_empty() {
            let mut deck = self.deck(kind);
            match kind {
                // In the order of the list.
                Kind::Matrix | Kind::Silent => deck.reverse(),
                _ => self.random.shuffle(&mut deck),
            }
            self.decks[number] = deck;
        }
        self.decks[number].pop()
    }

    fn deck(&self, kind: Kind) -> Vec<(usize, usize)> {
        if !kind.is_of_service() {
            return (0..self.targets.of(kind))
                .map(|target| (target, target))
                .collect();
        }
        let all = self.services.iter().copied();
        let pairs = all.flat_map(|first| {
            let others = self.services.iter();
            others.map(move |second| (first, *second))
        });
        let init = self.targets.init;
        let is_one = |(first, second): &(usize, usize)| match kind {
            Kind::Matrix => true,
            Kind::Pair => first != second,
            Kind::Init => Some(*second) == init && first != second,
            _ => first == second,
        };
        pairs.filter(is_one).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Kind, Strikes, Targets};

    const BY_SERVICE: [Kind; 5] = [
        Kind::Single,
        Kind::Pair,
        Kind::Again,
        Kind::Hang,
        Kind::Flip,
    ];

    fn targets(services: usize) -> Targets {
        Targets {
            services,
            swaps: 3,
            broken: 8,
            faults: 5,
            init: Some(0),
        }
    }

    fn pairs(kind: Kind, services: usize, kills: u32) -> Vec<(usize, usize)> {
        let strikes = Strikes::new(7, targets(services), kills, &[kind], 0..=0);
        let pair = |strike: super::Strike| (strike.first, strike.second);
        strikes.map(pair).collect()
    }

    #[test]
    fn the_matrix_is_complete_and_in_order() {
        let round = [
            [(0, 0), (0, 1), (0, 2)],
            [(1, 0), (1, 1), (1, 2)],
            [(2, 0), (2, 1), (2, 2)],
        ];
        let twice = [round, round].concat().concat();
        assert_eq!(pairs(Kind::Matrix, 3, 36), twice);
    }

    #[test]
    fn init_is_killed_behind_each_of_the_others() {
        let mut struck = pairs(Kind::Init, 4, 6);
        struck.sort_unstable();
        assert_eq!(struck, [(1, 0), (2, 0), (3, 0)]);
    }

    #[test]
    fn faults_come_in_the_order_of_the_list() {
        let faults = pairs(Kind::Silent, 4, 5);
        assert_eq!(faults, [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]);
    }

    #[test]
    fn each_ordered_pair_comes_once_before_any_comes_again() {
        let strikes = Strikes::new(7, targets(4), 24, &[Kind::Pair], 0..=0);
        let mut pairs: Vec<(usize, usize)> = Vec::new();
        for strike in strikes {
            assert_eq!(strike.kind, Kind::Pair);
            pairs.push((strike.first, strike.second));
        }
        assert_eq!(pairs.len(), 12);
        pairs.sort_unstable();
        pairs.dedup();
        assert_eq!(pairs.len(), 12);
        assert!(pairs.iter().all(|(first, second)| first != second));
    }

    #[test]
    fn all_versions_are_tried_alike() {
        for (kind, count) in [(Kind::Swap, 3), (Kind::Broken, 8)] {
            let strikes = Strikes::new(5, targets(2), 240, &[kind], 0..=0);
            let mut tried = vec![0; count];
            for strike in strikes {
                assert_eq!(strike.kind, kind);
                tried[strike.first] += 1;
            }
            assert!(tried.iter().all(|times| *times == 240 / count), "{tried:?}");
        }
        let none = Targets {
            broken: 0,
            ..targets(2)
        };
        let mut strikes = Strikes::new(5, none, 1, &[Kind::Broken], 0..=0);
        assert_eq!(strikes.next().unwrap().kind, Kind::Single);
    }

    #[test]
    fn a_service_that_was_given_up_is_left_alone() {
        let mut strikes = Strikes::new(3, targets(3), 100, &BY_SERVICE, 0..=9);
        strikes.next();
        strikes.give_up(1);
        for strike in strikes.by_ref() {
            assert!(strike.first != 1 && strike.second != 1);
        }
        strikes = Strikes::new(3, targets(1), 5, &[Kind::Pair], 0..=0);
        assert_eq!(strikes.next().unwrap().kind, Kind::Single);
        strikes.give_up(0);
        assert_eq!(strikes.next(), None);
    }

    #[test]
    fn what_is_left_out_changes_nothing_behind_it() {
        let all = Strikes::new(7, targets(4), 20, &[Kind::Silent], 0..=50);
        let mut rest = all.clone();
        rest.skip_kills(8);
        assert_eq!(rest.left(), 12);
        assert!(rest.clone().eq(all.skip(8)));
        rest.skip_kills(100);
        assert_eq!((rest.left(), rest.next()), (0, None));
    }

    proptest! {
        #[test]
        fn all_are_struck_alike_and_a_seed_repeats(
            seed in any::<u64>(), services in 1..9_usize, kills in 0..400_u32,
            low in 0..1000_u64, more in 0..1000_u64, kinds in 1..128_usize,
        ) {
            let kinds: Vec<Kind> = Kind::ALL
                .into_iter()
                .enumerate()
                .filter(|(place, _)| kinds >> place & 1 != 0)
                .map(|(_, kind)| kind)
                .collect();
            let strikes = Strikes::new(seed, targets(services), kills, &kinds, low..=low + more);
            let mut again = strikes.clone();
            let mut singles = vec![0_u32; services];
            let mut sum = 0;
            for strike in strikes {
                prop_assert_eq!(again.next(), Some(strike));
                prop_assert!((low..=low + more).contains(&strike.wait_ns));
                prop_assert_eq!(strike.first == strike.second, strike.kind != Kind::Pair);
                sum += strike.kind.kills();
                if strike.kind == Kind::Single {
                    singles[strike.first] += 1;
                }
            }
            prop_assert_eq!(sum, kills);
            let (most, least) = (singles.iter().max().unwrap(), singles.iter().min().unwrap());
            prop_assert!(most - least <= 1);
        }
    }
}
