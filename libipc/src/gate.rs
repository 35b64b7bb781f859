//! The gate of a swap for servers that do more than answer; see [`libsys::gate`].

use libsys::gate;

use crate::schema::Schema;

/// Passes the gate of a swap. Call it before the first touch of a device, a ring, the vault or
/// another server; a server that only answers passes it in
/// [`Server::serve`](crate::Server::serve). `schemas` are the interfaces that it will serve;
/// `test` tells why this version cannot take over.
pub fn pass(schemas: &[&'static Schema], test: impl FnOnce() -> Result<(), &'static str>) {
    gate::pass(digest(schemas.iter().copied()), test);
}

/// Returns the digest of what a server serves: in its upper half names, in the lower one all of it.
/// Never 0 for a server.
pub(crate) fn digest(schemas: impl Iterator<Item = &'static Schema>) -> u64 {
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
    use super::digest;
    use crate::schema::Schema;

    const OLD: Schema = Schema::new("Disk", 1, &["fn a()"], &[]);
    const NEW: Schema = Schema::new("Disk", 2, &["fn a()", "fn b()"], &[]);
    const OTHER: Schema = Schema::new("Pipe", 1, &["fn a()"], &[]);

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
}
