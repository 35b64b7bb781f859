//! What is seen of the versions in a swap.

use init::swap::{Sight, View};
use libsys::abi::ProcessState;
use libsys::service::{Phase, ServicePage, Trouble};

use super::kit::Kit;
use super::processes::{Running, cause_of};

/// Looks at a version and at the page of its slot.
pub(super) fn sight(kit: &Kit, slot: usize, running: Option<&Running>) -> Sight {
    let Some(running) = running else {
        return Sight::Nothing;
    };
    let info = match running.process.info() {
        Ok(info) if info.state == ProcessState::Alive as u32 => None,
        Ok(info) => Some(info),
        Err(_) => return Sight::Nothing,
    };
    if let Some(info) = info {
        let page = kit.slots[slot].read_page();
        let page = page.filter(|page| page.phase() == Phase::Failed);
        let trouble = page.and_then(|page| Trouble::from_word(page.detail()));
        return Sight::Ended(cause_of(&info), trouble);
    }
    // The phase first: what belongs to it was written before it.
    let before = kit.slots[slot].read_page();
    let page = kit.slots[slot].read_page();
    match (before, page) {
        (Some(before), Some(page)) => Sight::Alive(view(&before, &page)),
        _ => Sight::Nothing,
    }
}

fn view(before: &ServicePage, page: &ServicePage) -> View {
    // A time that was read twice alike was not being written.
    let is_stable = before.first_receive() == page.first_receive();
    View {
        phase: before.phase(),
        detail: page.detail(),
        schema: page.schema(),
        serving: page.serving(),
        first_receive: if is_stable { page.first_receive() } else { 0 },
    }
}
