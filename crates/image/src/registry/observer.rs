// SPDX-License-Identifier: Apache-2.0
//! Who wants to know how far a pull is, while it is going on: an unpacker that begins with the first layer that has come,
//! or a build that may be interrupted.

use crate::digest::Digest;
use crate::error::Result;
use crate::image::Image;

/// Is told of what comes in. Calls come from several threads at once, each from the one that did the work; that one
/// goes on when the call returns. An error ends the pull, and is the pull's.
pub trait Observer: Sync {
    /// An image's manifest and config are in the store, and agree. Its layers follow, in no order. With all platforms
    /// this is called once for each that is an image.
    fn image(&self, _image: &Image) -> Result<()> {
        Ok(())
    }

    /// A layer's blob is in the store, whole and verified: it came, or it was there before. Once for each digest of an
    /// image, however often that has it.
    fn layer(&self, _digest: &Digest, _size: u64) -> Result<()> {
        Ok(())
    }

    /// Asked between any two pieces of work, several times a second as long as bytes come in.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// Nobody.
impl Observer for () {}
