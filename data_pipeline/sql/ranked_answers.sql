-- answers (question, position, post_id, key, score) -> ranked: with the place of each among its
-- question's answers by score; answers of equal score stand in a keyed random order.
CREATE OR REPLACE TEMP VIEW ranked AS
SELECT *, row_number() OVER (
    PARTITION BY question ORDER BY score DESC, key, post_id
) AS place
FROM answers;
