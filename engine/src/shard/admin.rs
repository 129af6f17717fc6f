//! What admins change: options come, close and open again; concerts get policies.

use std::sync::Arc;

use crate::adjacency::Adjacency;
use crate::command::{Command, Request};
use crate::effect::Effects;
use crate::entry::Fact;
use crate::ids::{ConcertId, OptionId};
use crate::index::mix;
use crate::limits::{CONCERTS_PER_SHARD, OPTIONS_PER_SHARD, SEATS_PER_SHARD};
use crate::option::{OptionStatus, Policy, PolicyChange};
use crate::outcome::{Granted, Refusal, Unavailable};
use crate::pending::Change;
use crate::plan::Layout;
use crate::seat::{Seat, SeatRef};
use crate::shard::{ConcertState, Decision, OptionState, Shard};
use crate::time::Time;

impl Shard {
    pub(super) fn add_option(&mut self, at: Time, request: Request, effects: &mut Effects) -> Decision {
        let Command::AddOption { option, concert, layout } = &request.command else {
            unreachable!("routed by its command")
        };
        if self.find_option(*option).is_some() {
            return Granted::Done.into();
        }
        if let Some(no) = self.new_options.get(option).copied() {
            return self.wait_for(no, at, request);
        }
        if layout.check().is_err() {
            return Refusal::SeatsInvalid.into();
        }
        if !self.has_room_for(layout.seat_count()) {
            return Unavailable::Overloaded.into();
        }
        let (option, concert, layout) = (*option, *concert, Arc::clone(layout));
        let fact = Fact::Option { option, concert, status: OptionStatus::OnSale, version: 1 };
        let no = self.append(Some(&request), Change::NewOption { option, concert, layout }, fact, effects);
        self.new_options.insert(option, no);
        Decision::Later
    }

    /// Room for one more option of this many seats, beside those on their way.
    fn has_room_for(&self, seat_count: u32) -> bool {
        let coming = self.new_options.values().filter_map(|no| match &self.pending.get(*no)?.change {
            Change::NewOption { layout, .. } => Some(layout.categories.len()),
            _ => None,
        });
        let seats = self.seats.len() + coming.sum::<usize>() + seat_count as usize;
        let options = self.options.len() + self.new_options.len() + 1;
        seats <= SEATS_PER_SHARD as usize && options <= OPTIONS_PER_SHARD && self.has_room_for_a_concert()
    }

    /// Each option and each policy on its way may bring a concert along.
    fn has_room_for_a_concert(&self) -> bool {
        let coming = self.new_options.len() + self.new_policies.len();
        self.concerts.len() + coming < CONCERTS_PER_SHARD
    }

    pub(super) fn apply_new_option(&mut self, id: OptionId, concert: ConcertId, layout: Arc<Layout>) {
        self.new_options.remove(&id);
        self.insert_option(id, concert, layout, OptionStatus::OnSale, 1);
    }

    /// Takes an option into memory, all seats free.
    pub(super) fn insert_option(
        &mut self,
        id: OptionId,
        concert: ConcertId,
        layout: Arc<Layout>,
        status: OptionStatus,
        version: u32,
    ) {
        let concert = self.concert_mut(concert);
        let index = u16::try_from(self.options.len()).expect("bounded by OPTIONS_PER_SHARD");
        let base = u32::try_from(self.seats.len()).expect("bounded by SEATS_PER_SHARD");
        self.seats.extend(layout.categories.iter().map(|category| Seat::available(index, *category)));
        self.options.push(OptionState {
            id,
            concert,
            base,
            adjacency: Adjacency::new(&layout),
            layout,
            status,
            version,
            pending: None,
            feed_seq: 0,
        });
        let options = &self.options;
        self.option_index.insert(mix(id.0.into()), index.into(), |i| mix(options[i as usize].id.0.into()));
    }

    /// The concert's index; it comes into being with its first option or policy.
    fn concert_mut(&mut self, id: ConcertId) -> u32 {
        self.find_concert(id).unwrap_or_else(|| {
            assert!(self.concerts.len() < CONCERTS_PER_SHARD, "the ledger bounds what is restored");
            let index = u32::try_from(self.concerts.len()).expect("bounded by CONCERTS_PER_SHARD");
            let policy = self.default_policy();
            self.concerts.push(ConcertState { id, policy, policy_version: 0 });
            let concerts = &self.concerts;
            self.concert_index.insert(mix(id.0), index, |i| mix(concerts[i as usize].id.0));
            index
        })
    }

    pub(super) fn set_option_status(
        &mut self,
        at: Time,
        option: OptionId,
        status: OptionStatus,
        request: Request,
        effects: &mut Effects,
    ) -> Decision {
        let Some(index) = self.find_option(option) else { return Refusal::OptionUnknown.into() };
        let state = self.option(index);
        if let Some(no) = state.pending {
            return self.wait_for(no, at, request);
        }
        if state.status == status {
            return Granted::Done.into();
        }
        let version = state.version + 1;
        let concert = self.concerts[state.concert as usize].id;
        let fact = Fact::Option { option, concert, status, version };
        let change = Change::OptionStatus { index, status, version };
        let no = self.append(Some(&request), change, fact, effects);
        self.options[usize::from(index)].pending = Some(no);
        Decision::Later
    }

    /// A closed option lets go of its soft locks; holds on their way and reservations stay.
    pub(super) fn apply_option_status(
        &mut self,
        index: u16,
        status: OptionStatus,
        version: u32,
        effects: &mut Effects,
    ) {
        let state = &mut self.options[usize::from(index)];
        (state.pending, state.status, state.version) = (None, status, version);
        if status == OptionStatus::Closed {
            let range = state.base..state.base + state.layout.seat_count();
            for seat in range {
                self.end_soft_lock(SeatRef(seat), Seat::free, effects);
            }
        }
    }

    const fn default_policy(&self) -> Policy {
        Policy { reservations_per_user: self.settings.reservations_per_user, gate: false }
    }

    pub(super) fn set_policy(
        &mut self,
        at: Time,
        concert: ConcertId,
        change: PolicyChange,
        request: Request,
        effects: &mut Effects,
    ) -> Decision {
        if let Some(no) = self.new_policies.get(&concert).copied() {
            return self.wait_for(no, at, request);
        }
        let known = self.find_concert(concert).map(|index| &self.concerts[index as usize]);
        let before = known.map_or_else(|| self.default_policy(), |known| known.policy);
        let policy = before.with(change);
        // Whoever names a bound wants it to stay, also where the default is another one day.
        let is_pinned = known.is_some_and(|known| known.policy_version > 0);
        if policy == before && (is_pinned || change.reservations_per_user.is_none()) {
            return Granted::Done.into();
        }
        if known.is_none() && !self.has_room_for_a_concert() {
            return Unavailable::Overloaded.into();
        }
        let version = known.map_or(0, |known| known.policy_version) + 1;
        let fact = Fact::Policy { concert, policy, version };
        let no = self.append(Some(&request), Change::Policy { concert, policy, version }, fact, effects);
        self.new_policies.insert(concert, no);
        Decision::Later
    }

    pub(super) fn apply_policy(&mut self, concert: ConcertId, policy: Policy, version: u32) {
        self.new_policies.remove(&concert);
        let index = self.concert_mut(concert);
        let state = &mut self.concerts[index as usize];
        (state.policy, state.policy_version) = (policy, version);
    }
}
