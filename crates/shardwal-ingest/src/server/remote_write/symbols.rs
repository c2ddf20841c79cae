//! The table of symbols of a request of remote write 2.0, and what names a series in the cache.
//!
//! The references of a series differ from request to request. Each symbol that is used therefore
//! gets a number from the series cache, where it keeps this number from request to request. The
//! numbers of its symbols name a series.

use shardwal_timeseries::LABELS_BYTES_MAX;

use super::decode::{BadSeries, Why};
use super::protobuf::{Malformed, malformed};
use super::v2::{References, Symbols};
use crate::server::batch::Batch;
use crate::server::budget::Reservation;
use crate::server::refusal::Refusal;
use crate::server::varint::{VARINT_BYTES_MAX, put_varint};

/// The first byte of each name. Names of version 1.0 are empty, or begin with a field of the number
/// 1.
const NAME_BEGIN: u8 = 0;

/// Initial room of the table, in symbols.
const TABLE_STEP: usize = 256;

/// Maximum bytes that a reference adds to a name: [`NAME_BEGIN`] and a number.
const NAME_STEP: usize = 1 + VARINT_BYTES_MAX;

/// A symbol without a number. No number is so large.
const NO_NUMBER: u64 = u64::MAX;

#[derive(Debug)]
struct Symbol<'a> {
    text: &'a [u8],
    /// Its number in the cache, or [`NO_NUMBER`] until it is used.
    number: u64,
}

/// The symbols of a request.
#[derive(Debug)]
pub(super) struct SymbolTable<'a> {
    symbols: Vec<Symbol<'a>>,
    /// The name of the last series.
    name: Vec<u8>,
}

impl<'a> SymbolTable<'a> {
    /// Reads the symbols of a request.
    ///
    /// # Errors
    /// The message is malformed, or the budget is exhausted.
    pub(super) fn read(message: &'a [u8], reservation: &mut Reservation) -> Result<Self, Refusal> {
        let mut found = Symbols::new(message);
        let mut symbols = Vec::new();
        while let Some(text) = found.next()? {
            reservation.make_room(&mut symbols, TABLE_STEP)?;
            symbols.push(Symbol { text, number: NO_NUMBER });
        }
        Ok(Self { symbols, name: Vec::new() })
    }

    /// Returns the reserved bytes.
    pub(super) fn release(self, reservation: &mut Reservation) {
        let symbols = self.symbols.capacity() * size_of::<Symbol<'_>>();
        reservation.release(symbols + self.name.capacity());
    }

    /// Names the series with these references, for [`SymbolTable::name`].
    ///
    /// # Errors
    /// The references are invalid, or the budget is exhausted.
    #[inline]
    pub(super) fn name_series(
        &mut self,
        mut references: References<'a>,
        batch: &mut Batch<'_>,
        reservation: &mut Reservation,
    ) -> Result<(), BadSeries> {
        self.name.clear();
        let mut count = 0;
        while let Some(reference) = references.next().map_err(Why::Malformed)? {
            let room = reservation.make_room_for(&mut self.name, NAME_STEP);
            room.map_err(Refusal::from)?;
            if count == 0 {
                self.name.push(NAME_BEGIN);
            }
            count += 1;
            let number = self.number(reference, batch, reservation)?;
            put_varint(&mut self.name, number);
        }
        match count % 2 {
            0 => Ok(()),
            _ => Err(Why::OddReferences { count }.into()),
        }
    }

    /// What names the last series in the cache.
    #[inline]
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// The number of a symbol in the cache.
    #[inline]
    fn number(
        &mut self,
        reference: u64,
        batch: &mut Batch<'_>,
        reservation: &mut Reservation,
    ) -> Result<u64, BadSeries> {
        let symbols = self.symbols.len();
        let index = usize::try_from(reference).unwrap_or(usize::MAX);
        let symbol = self.symbols.get_mut(index).ok_or(Why::NoSymbol { reference, symbols })?;
        if symbol.number == NO_NUMBER {
            let bytes = symbol.text.len();
            // The cache holds it: it must be of use.
            if bytes > LABELS_BYTES_MAX {
                return Err(Why::symbol_too_long(bytes).into());
            }
            symbol.number = batch.head(symbol.text, reservation)?;
        }
        Ok(symbol.number)
    }

    /// Reads the next name and value, if there are more. The references must have been checked.
    ///
    /// # Errors
    /// A symbol is not UTF-8.
    pub(super) fn next_pair(
        &self,
        references: &mut References<'a>,
    ) -> Result<Option<(&'a str, &'a str)>, Malformed> {
        let mut text = || {
            let Some(reference) = references.next()? else { return Ok(None) };
            let index = usize::try_from(reference).unwrap_or(usize::MAX);
            let symbol = self.symbols.get(index).ok_or(malformed("a symbol is missing"))?;
            let text = str::from_utf8(symbol.text);
            text.map(Some).map_err(|_| malformed("a symbol is not UTF-8"))
        };
        Ok(text()?.zip(text()?))
    }
}
