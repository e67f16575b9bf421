// SPDX-License-Identifier: Apache-2.0
//! All streams of the pod, and whose they are.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use super::pump::{Pump, Wants};
use crate::error::Result;
use crate::reactor::{Interest, Reactor, Source};

/// Which stream of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// What it reads.
    Input,
    /// What it writes.
    Output,
}

/// The streams. Their numbers are given once.
#[derive(Debug, Default)]
pub struct Pumps {
    pumps: BTreeMap<u32, Pump>,
    next: u32,
}

impl Pumps {
    /// Has `pump` work from now on; its number.
    pub fn add(&mut self, pump: Pump, reactor: &Reactor) -> Result<u32> {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        reactor.add(pump.from(), Source::PumpInput(number), Interest::Read)?;
        self.pumps.insert(number, pump);
        Ok(number)
    }

    /// What the pump waits for is there. Whether it has ended by that.
    pub fn ready(&mut self, number: u32, reactor: &Reactor) -> bool {
        let Some(pump) = self.pumps.get_mut(&number) else {
            return false;
        };
        let before = pump.wants();
        pump.turn();
        self.settle(number, before, reactor)
    }

    /// Has a pump end as soon as there is nothing to move, at once where that is now. Whether it has ended.
    pub fn drain(&mut self, number: u32, reactor: &Reactor) -> bool {
        let Some(pump) = self.pumps.get_mut(&number) else {
            return true;
        };
        pump.drain();
        let before = pump.wants();
        if before == Wants::Input {
            pump.turn();
        }
        self.settle(number, before, reactor)
    }

    /// Has the reactor wait for what the pump wants now. An end that can't be waited for is the stream's.
    fn settle(&mut self, number: u32, before: Wants, reactor: &Reactor) -> bool {
        let Some(pump) = self.pumps.get(&number) else {
            return true;
        };
        let waits = |pump: &Pump| match pump.wants() {
            wants if wants == before => Ok(()),
            Wants::Nothing => Ok(()),
            Wants::Input => {
                reactor.remove(pump.to());
                reactor.add(pump.from(), Source::PumpInput(number), Interest::Read)
            }
            Wants::Room => {
                reactor.remove(pump.from());
                reactor.add(pump.to(), Source::PumpRoom(number), Interest::Write)
            }
        };
        let goes_on = waits(pump).is_ok() && pump.wants() != Wants::Nothing;
        if !goes_on {
            self.close(number, reactor);
        }
        !goes_on
    }

    /// Ends a pump, whatever is left to move.
    pub fn close(&mut self, number: u32, reactor: &Reactor) {
        if let Some(pump) = self.pumps.remove(&number) {
            reactor.remove(pump.from().as_fd());
            reactor.remove(pump.to().as_fd());
        }
    }

    /// Whether it still works.
    pub fn contains(&self, number: u32) -> bool {
        self.pumps.contains_key(&number)
    }
}
