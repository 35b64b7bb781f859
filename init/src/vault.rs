//! Handles that outlive the servers they belong to.
//!
//! Each client has its own keys; the client is known by the badge that `init` minted, so nobody
//! reaches what another one keeps.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use libipc::proto::init::{InitError, MAX_VAULT_KEYS};

/// Things of type `T` by client and key.
#[derive(Clone, Debug)]
pub struct Vault<T> {
    things: BTreeMap<(u64, u64), T>,
}

impl<T> Default for Vault<T> {
    fn default() -> Self {
        Vault {
            things: BTreeMap::new(),
        }
    }
}

impl<T> Vault<T> {
    /// Keeps a thing, in place of what was there.
    ///
    /// # Errors
    ///
    /// `VaultFull` for a new key when the client has [`MAX_VAULT_KEYS`].
    pub fn put(&mut self, client: u64, key: u64, thing: T) -> Result<(), InitError> {
        self.check(client, key)?;
        self.things.insert((client, key), thing);
        Ok(())
    }

    /// Checks whether there is room for a key.
    ///
    /// # Errors
    ///
    /// As [`Vault::put`].
    pub fn check(&self, client: u64, key: u64) -> Result<(), InitError> {
        let is_new = !self.things.contains_key(&(client, key));
        if is_new && self.keys(client).count() >= MAX_VAULT_KEYS {
            return Err(InitError::VaultFull);
        }
        Ok(())
    }

    /// Returns what is under a key.
    pub fn get(&self, client: u64, key: u64) -> Option<&T> {
        self.things.get(&(client, key))
    }

    /// Drops what is under a key, if there is something.
    pub fn remove(&mut self, client: u64, key: u64) {
        self.things.remove(&(client, key));
    }

    /// Lists the client's keys in ascending order.
    pub fn list(&self, client: u64) -> Vec<u64> {
        self.keys(client).collect()
    }

    fn keys(&self, client: u64) -> impl Iterator<Item = u64> {
        self.things
            .range((client, 0)..=(client, u64::MAX))
            .map(|(&(_, key), _)| key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_client_has_a_bounded_number_of_keys() {
        let mut vault = Vault::default();
        for key in 0..MAX_VAULT_KEYS as u64 {
            assert_eq!(vault.put(1, key, ()), Ok(()));
        }
        assert_eq!(vault.put(1, 1_000, ()), Err(InitError::VaultFull));
        assert_eq!(vault.put(1, 0, ()), Ok(()));
        assert_eq!(vault.put(2, 1_000, ()), Ok(()));
        vault.remove(1, 0);
        assert_eq!(vault.put(1, 1_000, ()), Ok(()));
    }

    proptest! {
        #[test]
        fn clients_see_their_own_things_only(
            steps in prop::collection::vec((0_u64..3, 0_u64..5, any::<Option<u8>>()), 0..80),
        ) {
            let mut vault = Vault::default();
            let mut models: [HashMap<u64, u8>; 3] = Default::default();
            for (client, key, thing) in steps {
                let model = &mut models[client as usize];
                match thing {
                    Some(thing) => {
                        prop_assert_eq!(vault.put(client, key, thing), Ok(()));
                        model.insert(key, thing);
                    }
                    None => {
                        vault.remove(client, key);
                        model.remove(&key);
                    }
                }
                let mut keys: Vec<u64> = model.keys().copied().collect();
                keys.sort_unstable();
                prop_assert_eq!(vault.list(client), keys);
                prop_assert_eq!(vault.get(client, key), model.get(&key));
            }
        }
    }
}
