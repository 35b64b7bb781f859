//! The tests that run inside the system, in Ring 3.

use crate::Scenario;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("Ring 3")
            .smp(&[1, 2, 4])
            .time_limit(240)
            .exec("system-tests")
            .expect_guest_tests(),
    ]
}
