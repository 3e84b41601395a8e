-- judged, answers, pairs -> one row a reason (null: in a group) with its posts and its questions.
WITH paired AS (
    SELECT DISTINCT question FROM pairs
), answered AS (
    SELECT question, count(*) AS num_answers FROM answers GROUP BY question
)
SELECT
    CASE
        WHEN reason IS NOT NULL THEN reason
        WHEN paired.question IS NOT NULL THEN NULL
        WHEN num_answers IS NULL THEN 'no_answer'
        WHEN num_answers = 1 THEN 'single_answer'
        ELSE 'equal_scores'
    END AS final_reason,
    count(*) AS num_posts,
    count(*) FILTER (is_question) AS num_questions
FROM judged
LEFT JOIN paired USING (question)
LEFT JOIN answered USING (question)
GROUP BY final_reason
ORDER BY final_reason;
