-- keys (key_high, key_low, site, question_id, response_id, num_responses, score, order_key)
-- -> all but one of the posts with the same text. The copy in the group with the most answers stays,
-- then the one with the higher score; the rest is an arbitrary but fixed order.
WITH copies AS (
    SELECT *, row_number() OVER (
        PARTITION BY key_high, key_low
        ORDER BY num_responses DESC, score DESC, order_key, site, response_id
    ) AS copy
    FROM keys
)
SELECT site, question_id, response_id
FROM copies
WHERE copy > 1
ORDER BY order_key, site, response_id;
