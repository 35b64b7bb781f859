//! The gate of a swap for servers that do more than answer; see [`libsys::gate`].

use libsys::gate;
use libsys::service::{MAX_INTERFACES, Served, Serving};

use crate::schema::Schema;

/// Passes the gate of a swap. Call it before the first touch of a device, a ring, the vault or
/// another server; a server that only answers passes it in
/// [`Server::serve`](crate::Server::serve). `schemas` are the interfaces that it will serve;
/// `test` tells why this version cannot take over.
pub fn pass(schemas: &[&'static Schema], test: impl FnOnce() -> Result<(), &'static str>) {
    pass_with(schemas.iter().copied(), test);
}

/// As [`pass`].
pub(crate) fn pass_with(
    schemas: impl Iterator<Item = &'static Schema> + Clone,
    test: impl FnOnce() -> Result<(), &'static str>,
) {
    let serving = serving(schemas.clone());
    gate::pass(&serving, |asked| prefix(schemas.clone(), asked), test);
}

/// Says what a server serves.
fn serving(schemas: impl Iterator<Item = &'static Schema> + Clone) -> Serving {
    let mut serving = Serving {
        digest: digest(schemas.clone()),
        ..Serving::default()
    };
    for (place, schema) in serving.interfaces.iter_mut().zip(schemas.clone()) {
        *place = Served {
            id: schema.id,
            version: u16::try_from(schema.version).unwrap_or(u16::MAX),
            methods: schema.methods.len() as u16,
        };
    }
    // What is not listed is only replaced by exactly the same.
    if schemas.clone().count() <= MAX_INTERFACES {
        serving.prefix = prefix(schemas, &serving.interfaces);
    }
    serving
}

/// Returns a digest of as much of each interface as was asked for; 0 if one has less than that, or
/// is not served.
fn prefix(
    schemas: impl Iterator<Item = &'static Schema> + Clone,
    asked: &[Served; MAX_INTERFACES],
) -> u64 {
    let part = |asked: &Served| {
        let schema = schemas.clone().find(|schema| schema.id == asked.id)?;
        schema.prefix(asked.methods.into())
    };
    let asked = asked.iter().filter(|asked| **asked != Served::default());
    // A sum, so that the order does not count.
    let sum = asked.map(part).try_fold(0_u64, |sum, part| {
        Some(sum.wrapping_add(part?.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    });
    sum.map_or(0, |sum| sum.max(1))
}

/// Returns the digest of what a server serves: in its upper half names, in the lower one all of it.
/// Never 0 for a server.
fn digest(schemas: impl Iterator<Item = &'static Schema>) -> u64 {
    let fold = |sum: u32, word: u64| {
        let mixed = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        sum.wrapping_add((mixed >> 32) as u32)
    };
    let (names, all) = schemas.fold((1, 0), |(names, all), schema| {
        // Sums, so that the order does not count.
        (fold(names, schema.id.into()), fold(all, schema.hash))
    });
    u64::from(names) << 32 | u64::from(all)
}

#[cfg(test)]
mod tests {
    use super::{digest, prefix, serving};
    use crate::schema::{Contract, Method, Schema, signature_digest};

    const fn method(signature: &str) -> Method {
        Method {
            name: "a",
            contract: Contract::Idempotent,
            is_stream: false,
            digest: signature_digest(signature),
            reads: None,
            handles: (0, 0),
        }
    }

    const A: &str = "fn a()";
    const B: &str = "fn b()";
    const OLD: Schema = Schema::new("Disk", 1, &[A], &[method(A)]);
    const NEW: Schema = Schema::new("Disk", 2, &[A, B], &[method(A), method(B)]);
    const CHANGED: Schema = Schema::new("Disk", 2, &[B, A], &[method(B), method(A)]);
    const OTHER: Schema = Schema::new("Pipe", 1, &[A], &[method(A)]);

    #[test]
    fn versions_differ_in_the_lower_half_and_interfaces_in_the_upper_one() {
        let of = |schemas: &[&'static Schema]| digest(schemas.iter().copied());
        let (old, new, other) = (of(&[&OLD]), of(&[&NEW]), of(&[&OTHER]));
        assert_eq!(old >> 32, new >> 32);
        assert_ne!(old, new);
        assert_ne!(old >> 32, other >> 32);
        assert_eq!(of(&[&OLD, &OTHER]), of(&[&OTHER, &OLD]));
        assert_ne!(of(&[&OLD, &OTHER]) >> 32, old >> 32);
    }

    #[test]
    fn a_version_that_only_adds_methods_has_the_prefix_of_the_one_before() {
        let serves = |schemas: &[&'static Schema]| serving(schemas.iter().copied());
        let of = |schemas: &[&'static Schema], asked: &[&'static Schema]| {
            prefix(schemas.iter().copied(), &serves(asked).interfaces)
        };
        let old = serves(&[&OLD, &OTHER]);
        assert_ne!(old.prefix, 0);
        assert_eq!(of(&[&OTHER, &NEW], &[&OLD, &OTHER]), old.prefix);
        assert_ne!(of(&[&OTHER, &CHANGED], &[&OLD, &OTHER]), old.prefix);
        // It has less, or lacks one.
        assert_eq!(of(&[&OLD], &[&NEW]), 0);
        assert_eq!(of(&[&NEW], &[&OLD, &OTHER]), 0);
        assert_eq!(
            old.interfaces
                .map(|served| (served.version, served.methods)),
            [(1, 1), (1, 1), (0, 0), (0, 0)]
        );
    }
}
