// SPDX-License-Identifier: Apache-2.0
//! What was found out about this kernel and this machine, as data: input of the plan and of `check`. Runs in the runtime's
//! own process with whatever privileges it has; reads only.

mod cgroups;
pub mod kernel;
pub mod lsm;
mod membership;
mod net;
pub mod processes;
mod users;

pub use cgroups::{Layout, SYSTEMDS, V1, cgroups};
pub use membership::{Membership, ROOT_INODE, membership, own_membership};
pub use net::{Interface, interfaces};
pub use users::in_user_namespace;
