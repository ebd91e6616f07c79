//! The data set that is built into the binary: New York's flights of 2013.
//!
//! Owns the reader of `data/nycflights13/*.columns.gz`, whose format that folder's README describes.
//! Refuses to interpret values: a row is text, and `NA` is [`None`]. A table is decompressed block by
//! block, so a reader never holds more than one block of it.

use std::io::{BufRead, BufReader, Lines};

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;

/// One table of the data set.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    pub name: &'static str,
    packed: &'static [u8],
}

macro_rules! table {
    ($name:literal) => {
        Table {
            name: $name,
            packed: include_bytes!(concat!("../../../data/nycflights13/", $name, ".columns.gz")),
        }
    };
}

pub const FLIGHTS: Table = table!("flights");
pub const WEATHER: Table = table!("weather");
pub const PLANES: Table = table!("planes");
pub const AIRPORTS: Table = table!("airports");
pub const AIRLINES: Table = table!("airlines");

/// One row: a value per column, `None` where the data set says `NA`.
pub type Row<'a> = [Option<&'a str>];

impl Table {
    /// The names of the columns, in the order of [`Row`].
    pub fn columns(&self) -> Result<Vec<String>> {
        let header = self.lines().next().with_context(|| format!("{}: no header", self.name))??;
        Ok(header.split(',').map(str::to_owned).collect())
    }

    /// Calls `each` for every row in the data set's own order; the first error ends it.
    pub fn for_each_row(&self, mut each: impl FnMut(&Row) -> Result<()>) -> Result<()> {
        let width = self.columns()?.len();
        let mut lines = self.lines().skip(1);
        loop {
            let block = lines.by_ref().take(width).collect::<std::io::Result<Vec<_>>>()?;
            if block.is_empty() {
                return Ok(());
            }
            ensure!(block.len() == width, "{}: a block of {} columns, not {width}", self.name, block.len());
            self.rows_of(&block, &mut each)?;
        }
    }

    fn rows_of(&self, block: &[String], each: &mut impl FnMut(&Row) -> Result<()>) -> Result<()> {
        let mut columns: Vec<_> = block.iter().map(|line| line.split(',')).collect();
        let mut row = Vec::with_capacity(columns.len());
        loop {
            row.clear();
            row.extend(
                columns.iter_mut().map_while(Iterator::next).map(|text| (text != "NA").then_some(text)),
            );
            if row.is_empty() {
                return Ok(());
            }
            ensure!(row.len() == columns.len(), "{}: columns of different lengths in one block", self.name);
            each(&row)?;
        }
    }

    fn lines(&self) -> Lines<BufReader<GzDecoder<&'static [u8]>>> {
        BufReader::new(GzDecoder::new(self.packed)).lines()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_data_set_is_there() {
        for (table, rows, columns) in [
            (FLIGHTS, 336_776, 19),
            (WEATHER, 26_115, 15),
            (PLANES, 3_322, 9),
            (AIRPORTS, 1_458, 8),
            (AIRLINES, 16, 2),
        ] {
            let mut count = 0;
            table
                .for_each_row(|row| {
                    count += 1;
                    assert_eq!(row.len(), columns);
                    Ok(())
                })
                .unwrap();
            assert_eq!(count, rows, "{}", table.name);
            assert_eq!(table.columns().unwrap().len(), columns);
        }
    }

    #[test]
    fn na_is_not_a_text() {
        let mut cancelled = 0;
        FLIGHTS
            .for_each_row(|row| {
                cancelled += usize::from(row[3].is_none());
                assert!(row.iter().flatten().all(|text| !text.is_empty() && *text != "NA"));
                Ok(())
            })
            .unwrap();
        assert_eq!(cancelled, 8_255);
    }
}
